"""The page "Classify": photos judged by a fitted classifier, and which of them a person should see.

What it says of a photo is what `miniclip predict` says of it, in words.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from miniclip.errors import ConfigError, ImageError
from miniclip.probe.model import ClassifierModel
from miniclip.probe.predict import Prediction
from miniclip.serve.failures import MissingError
from miniclip.serve.pages import disk
from miniclip.serve.pages.frame import (
    OnDisk,
    answers,
    percent,
    photos,
    picture,
    plain,
    sentence,
    told,
)
from miniclip.serve.pages.handed import SIDE, table, thumbnail
from miniclip.serve.service import Service

_BARS = 5  # of each photo
_DECIDED = {
    "auto": "Automatic",
    "review": "To a person",
    "out-of-scope": "To a person, not of the kind that was learnt",
}


class Alike(NamedTuple):
    """A training image that looks alike; picture: where it lies, if the index has it."""

    said: str
    picture: str | None


@dataclass(frozen=True)
class Judged:
    """A photo with what is said of it, or why it cannot be read.

    sure: how often sets hold the right label.
    """

    name: str
    picture: str | None = None
    said: Prediction | None = None
    sure: float = 0.0
    nearest: tuple[Alike, ...] = ()
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
    evidence = Evidence(service)
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            model = gr.Dropdown(list(service.models), value=first, label="Classifier")
            about = sentence(_about(service, first))
            files = photos("Photos", height=160)
            ask = gr.Button("Classify", variant="primary")
        with gr.Column(scale=2, min_width=280):
            place = answers("Choose photos to have them judged.", _show)

    @told
    async def describe(name: str) -> str:
        return plain(_about(service, name))

    @told
    async def classify(
        name: str, paths: list[str] | None
    ) -> tuple[tuple[Judged, ...], str, dict[str, Any]]:
        judged = await judge(service, evidence, name, paths or [])
        return judged, plain(_summary(judged)), gr.update(value=_table(judged), interactive=True)

    private: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
    model.change(describe, model, about, **private)
    ask.click(classify, [model, files], [place.found, place.summary, place.download], **private)


def _about(service: Service, name: str) -> str:
    return f"It tells apart {', '.join(service.model(name).model.classes)}."


async def judge(
    service: Service, evidence: Evidence, name: str, paths: list[str]
) -> tuple[Judged, ...]:
    """Judge uploads with the classifier of a name; ConfigError when there are none."""
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
                await evidence.of(name, said),
            )
        )
    return tuple(judged)


class Evidence:
    """Training images with their pictures, where the index has the very same files."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers: dict[str, tuple[int, dict[bytes, int]]] = {}

    async def of(self, name: str, said: Prediction) -> tuple[Alike, ...]:
        """Return the training images of a classifier that a prediction names."""
        model = self._service.model(name).model
        numbers = await self._numbers_of(name, model)
        row_of = {name: row for row, name in enumerate(model.reference.names)}
        found = []
        for one in said.nearest:
            row = row_of[one.name]
            label = model.classes[model.reference.labels[row]]
            content = bytes.fromhex(model.reference.contents[row])
            small = await self._picture(numbers[content], content) if content in numbers else None
            found.append(Alike(f"{one.name} ({label}), cosine {one.cosine:.2f}", small))
        return tuple(found)

    async def _numbers_of(self, name: str, model: ClassifierModel) -> dict[bytes, int]:
        """Return the numbers in the index by content; looked up again when it has grown."""
        count = await self._service.count()
        if self._service.index is None or count is None:
            return {}
        known, numbers = self._numbers.get(name, (-1, {}))
        if known != count:
            contents = set(map(bytes.fromhex, model.reference.contents))
            store = self._service.index.store
            numbers = await asyncio.to_thread(
                lambda: {one.content: one.id for one in store.known() if one.content in contents}
            )
            self._numbers[name] = count, numbers
        return numbers

    async def _picture(self, number: int, content: bytes) -> str | None:
        try:
            small, digest = await self._service.image(number, SIDE)
        except (ImageError, MissingError):
            return None
        return disk.keep(small, "photo.jpg") if digest == content.hex() else None


def _summary(judged: tuple[Judged, ...]) -> str:
    said = [one.said for one in judged if one.said]
    alone = sum(one.decision == "auto" for one in said)
    unread = f", {len(judged) - len(said)} cannot be read" if len(said) < len(judged) else ""
    return f"{alone} of {len(judged)} automatic, {len(said) - alone} to a person{unread}."


def _show(one: Judged) -> None:
    """Draw a photo with its bars, the decision and the evidence."""
    if one.said is None:
        sentence(f"{one.name}: {one.reason}")
        return
    picture(one.picture, one.name)
    with gr.Column(scale=2, min_width=240):
        gr.Label(dict(one.said.labels), num_top_classes=_BARS, label=one.name)
        gr.Markdown(f"**{_DECIDED[one.said.decision]}** ({plain(one.said.reason)})")
        if one.said.decision != "out-of-scope":  # of those the set promises nothing
            labels = ", ".join(one.said.label_set) or "none of the labels"
            gr.Markdown(plain(f"Right {percent(one.sure)} of the time, as a set: {labels}"))
        with gr.Accordion("Training images that look most alike", open=False), gr.Row():
            for alike in one.nearest:
                with gr.Column(min_width=120):
                    if alike.picture:
                        picture(alike.picture, alike.said, height=120)
                    gr.Markdown(plain(alike.said))


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
