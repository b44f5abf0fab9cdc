"""The page "Zero-shot": photos named with labels that somebody types, without any training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from miniclip.errors import ConfigError, ImageError
from miniclip.prompts import DEFAULT_TEMPLATES
from miniclip.serve.pages.frame import (
    OnDisk,
    answers,
    lines,
    photos,
    picture,
    plain,
    sentence,
    told,
)
from miniclip.serve.pages.handed import table, thumbnail
from miniclip.serve.service import Service

_LABELS = "cat\ndog\ncup of coffee\nmotorcycle"
_BARS = 5  # of each photo


@dataclass(frozen=True)
class Named:
    """A photo with the share of each label, the likeliest first, or why it cannot be read."""

    name: str
    picture: str | None = None
    shares: tuple[tuple[str, float], ...] = ()
    reason: str = ""


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    gr.Markdown(
        "Name photos with labels of your own. Nothing is trained. The shares of a photo add up to "
        "100 %: they say which of your labels fits best, not that one fits."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            files = photos("Photos", height=160)
            labels = gr.Textbox(_LABELS, label="Labels", info="One a line.", lines=5, max_lines=12)
            with gr.Accordion("Prompt templates", open=False):
                templates = gr.Textbox(
                    "\n".join(DEFAULT_TEMPLATES),
                    label="Templates",
                    info="One sentence a line, with {} where the label goes. A label is the mean "
                    "of all its sentences.",
                    lines=6,
                    max_lines=20,
                )
            ask = gr.Button("Name the photos", variant="primary")
        with gr.Column(scale=2, min_width=280):
            place = answers("Choose photos to see which label fits each best.", _show)

    @told
    async def name_photos(
        paths: list[str] | None, labels: str, templates: str
    ) -> tuple[tuple[Named, ...], str, dict[str, Any]]:
        named = await _named(service, paths or [], lines(labels), lines(templates))
        read = [one for one in named if one.shares]
        said = f"{len(read)} of {len(named)} photos named."
        return named, plain(said), gr.update(value=_table(read), interactive=True)

    ask.click(
        name_photos,
        [files, labels, templates],
        [place.found, place.summary, place.download],
        concurrency_limit=None,
        api_visibility="private",
    )


async def _named(
    service: Service, paths: list[str], labels: list[str], templates: list[str]
) -> tuple[Named, ...]:
    if not paths:
        raise ConfigError("choose a photo first")
    if len(labels) < 2:
        raise ConfigError("write at least two labels, one a line; one alone would get 100 %")
    uploads = [OnDisk(path) for path in paths]
    name = await service.zero_shot(labels, templates)
    named: list[Named] = []
    async for seen in service.sight.see(uploads):
        upload = uploads[len(named)]
        if isinstance(seen, ImageError):
            named.append(Named(upload.name, reason=str(seen)))
        else:
            small = await thumbnail(service, Path(upload.path))
            named.append(Named(upload.name, small, tuple(name(seen))))
    return tuple(named)


def _show(one: Named) -> None:
    """Draw a photo with its bars."""
    if one.reason:
        sentence(f"{one.name}: {one.reason}")
        return
    picture(one.picture, one.name)
    gr.Label(dict(one.shares), num_top_classes=_BARS, label=one.name, scale=2, min_width=200)


def _table(named: list[Named]) -> str:
    labels = sorted(label for label, _ in named[0].shares) if named else []
    rows = []
    for one in named:
        share_of = {label: f"{share:.6f}" for label, share in one.shares}
        best = one.shares[0][0]
        rows.append([one.name, best, share_of[best], *map(share_of.__getitem__, labels)])
    return table("labels.csv", ["photo", "label", "probability", *labels], rows)
