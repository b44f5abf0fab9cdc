"""The page "About": which model, what it is for, its limits, and what leaves the machine."""

from __future__ import annotations

import re

import gradio as gr

from miniclip import __version__
from miniclip.serve.pages.frame import plain
from miniclip.serve.service import Service

_PROMISE = (
    "**What leaves this machine: nothing.** Photos and words go from your browser to this server "
    "and no further. Uploads are deleted after an hour or two, and when the server stops. There "
    "is no telemetry, and no font or script comes from elsewhere."
)
_ACTIVE = re.compile(r"!(?=\[)|<")  # pictures and elements in a card


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    encoder, settings = service.encoder, service.settings
    facts = [
        f"**miniclip {plain(__version__)}**, Apache-2.0",
        f"Model: **{plain(encoder.name)}**, vectors of {encoder.embedding_dim} numbers, "
        f"fingerprint {encoder.fingerprint[:12]}",
        f"Licence of the model: {plain(service.licence or 'not known')}",
        "Classifiers: " + (", ".join(map(plain, service.models)) or "none"),
        f"At once: {settings.max_images} photos of up to {settings.max_bytes >> 20} MiB and "
        f"{settings.max_pixels // 1_000_000} million pixels, {settings.max_texts} sentences",
    ]
    gr.Markdown(_PROMISE)
    gr.Markdown("\n".join(f"- {fact}" for fact in facts), latex_delimiters=[])
    if service.card:
        with gr.Accordion("Model card", open=True):
            gr.Markdown(_quiet(service.card), latex_delimiters=[], elem_classes="card")


def _quiet(card: str) -> str:
    """Return a card without what a browser would load or run; headings one level lower."""
    text = _ACTIVE.sub(lambda found: "\\!" if found[0] == "!" else "&lt;", card)
    return re.sub(r"^(#{1,5}) ", r"#\1 ", text, flags=re.MULTILINE)
