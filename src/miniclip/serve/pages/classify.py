"""The page "Classify": photos judged by a fitted classifier, and which of them a person should see.

What it says of a photo is what `miniclip predict` says of it, in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from miniclip.errors import ConfigError, ImageError
from miniclip.probe.model import ClassifierModel
from miniclip.probe.predict import Prediction
from miniclip.serve.pages.frame import OnDisk, percent, photos, plain, sentence, told
from miniclip.serve.pages.handed import table, thumbnail
from miniclip.serve.service import Service

_BARS = 5  # of each photo
_DECIDED = {
    "auto": "Automatic",
    "review": "To a person",
    "out-of-scope": "To a person, for this is no photo of the kind that was learnt",
}


@dataclass(frozen=True)
class Judged:
    """A photo with what is said of it, or why it cannot be read.

    sure: how often sets hold the right label. nearest: training images that look alike, a line
    each.
    """

    name: str
    picture: str | None = None
    said: Prediction | None = None
    sure: float = 0.0
    nearest: str = ""
    reason: str = ""


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    if not service.models:
        gr.Markdown(
            "This server has no fitted classifier. Start it with `miniclip serve --model MODEL`, "
            "or make one on the page Teach."
        )
        return
    gr.Markdown("Judge photos with a fitted classifier; it says which of them a person should see.")
    first = next(iter(service.models))
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            model = gr.Dropdown(list(service.models), value=first, label="Classifier")
            about = sentence(_about(service, first))
            files = photos("Photos", height=160)
            ask = gr.Button("Classify", variant="primary")
        with gr.Column(scale=2, min_width=280):
            summary = sentence("Choose photos to have them judged.")
            download = gr.DownloadButton("Download as CSV", interactive=False, size="sm")
            found = gr.State(())
            gr.render(inputs=found, concurrency_limit=None)(_show_all)

    @told
    async def describe(name: str) -> str:
        return plain(_about(service, name))

    @told
    async def classify(
        name: str, paths: list[str] | None
    ) -> tuple[tuple[Judged, ...], str, dict[str, Any]]:
        judged = await _judged(service, name, paths or [])
        return judged, plain(_summary(judged)), gr.update(value=_table(judged), interactive=True)

    private: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
    model.change(describe, model, about, **private)
    ask.click(classify, [model, files], [found, summary, download], **private)


def _about(service: Service, name: str) -> str:
    return f"It tells apart {', '.join(service.model(name).model.classes)}."


async def _judged(service: Service, name: str, paths: list[str]) -> tuple[Judged, ...]:
    if not paths:
        raise ConfigError("choose a photo first")
    predictor = service.model(name)
    model, uploads = predictor.model, [OnDisk(path) for path in paths]
    judged: list[Judged] = []
    async for seen in service.sight.see(uploads, model.views_text):
        upload = uploads[len(judged)]
        if isinstance(seen, ImageError):
            judged.append(Judged(upload.name, reason=str(seen)))
            continue
        said = await service.predict(predictor, seen)
        judged.append(
            Judged(
                upload.name,
                await thumbnail(service, Path(upload.path)),
                said,
                1 - model.rules.settings.alpha,
                _nearest(model, said),
            )
        )
    return tuple(judged)


def _nearest(model: ClassifierModel, said: Prediction) -> str:
    label_of = dict(zip(model.reference.names, model.reference.labels.tolist(), strict=True))
    return "\n".join(
        f"{one.name} ({model.classes[label_of[one.name]]}), cosine {one.cosine:.2f}"
        for one in said.nearest
    )


def _summary(judged: tuple[Judged, ...]) -> str:
    said = [one.said for one in judged if one.said]
    alone = sum(one.decision == "auto" for one in said)
    unread = f", {len(judged) - len(said)} cannot be read" if len(said) < len(judged) else ""
    return f"{alone} of {len(judged)} automatic, {len(said) - alone} to a person{unread}."


def _show_all(judged: tuple[Judged, ...]) -> None:
    for one in judged:
        _show(one)


def _show(one: Judged) -> None:
    """Draw a photo with its bars, the decision and the evidence."""
    with gr.Row(elem_classes="photo"):
        if one.said is None:
            sentence(f"{one.name}: {one.reason}")
            return
        gr.Image(
            one.picture,
            label=one.name,
            alt_text=one.name,
            height=200,
            interactive=False,
            buttons=[],
            min_width=140,
        )
        with gr.Column(scale=2, min_width=240):
            gr.Label(dict(one.said.labels), num_top_classes=_BARS, label=one.name)
            gr.Markdown(f"**{_DECIDED[one.said.decision]}**: {plain(one.said.reason)}.")
            labels = ", ".join(one.said.label_set) or "none of the labels"
            gr.Markdown(plain(f"The right label, {percent(one.sure)} of the time: {labels}"))
            with gr.Accordion("Training images that look most alike", open=False):
                gr.Markdown(plain(one.nearest))


def _table(judged: tuple[Judged, ...]) -> str:
    return table(
        "predictions.csv",
        ["photo", "label", "probability", "set", "decision", "reason", "nearest"],
        [
            [
                one.name,
                one.said.label,
                f"{one.said.probability:.6f}",
                "|".join(one.said.label_set),
                one.said.decision,
                one.said.reason,
                "|".join(neighbour.name for neighbour in one.said.nearest),
            ]
            for one in judged
            if one.said
        ],
    )
