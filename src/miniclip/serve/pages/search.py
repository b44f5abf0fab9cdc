"""The page "Search": a sentence, a photo or both; filters; a gallery, and more like one of it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from miniclip.errors import ConfigError
from miniclip.index.ask import Answer, Found
from miniclip.index.relevance import CUT
from miniclip.index.where import parse_where, taken_between
from miniclip.serve.asking import Search
from miniclip.serve.pages import disk
from miniclip.serve.pages.frame import OnDisk, percent, photo, plain, sentence, told
from miniclip.serve.service import Service

NO_INDEX = (
    "This server has no pictures to search. Whoever runs it makes an index with: miniclip index "
    "FOLDER, and starts it with: miniclip serve --index FOLDER"
)
_TOP = 12
_TILE, _LARGE = 400, 2048  # pixels of the longer side
_FORGOTTEN = "the server does not remember this search; search again"  # a page sleeps for hours
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")


@dataclass(frozen=True)
class Shown:
    """What one visitor looks at: the question, the page of it, its hits, and the chosen one."""

    search: Search | None = None
    hits: tuple[Found, ...] = ()
    chosen: int = 0


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    if service.index is None:
        sentence(NO_INDEX)
        return
    _Page(service)


class _Page:
    def __init__(self, service: Service) -> None:
        self._service = service
        self.shown = gr.State(Shown())
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                asked = self._question()
            with gr.Column(scale=3, min_width=320, elem_classes="answer"):
                self._answer()
        answer = [
            *(self.shown, self.said, self.gallery, self.back, self.on, self.paging, self.picked)
        ]
        gr.on(
            [self.button.click, self.text.submit, self.photo.upload],
            told(self.search),
            asked,
            answer,
        )
        self.back.click(told(self.turn_back), self.shown, answer)
        self.on.click(told(self.turn_on), self.shown, answer)
        self.like.click(told(self.more_like), self.shown, answer)
        self.gallery.select(
            told(self.pick),
            self.shown,
            [self.shown, self.picked, self.picture, self.facts, self.save],
        )

    def _question(self) -> list[Any]:
        self.text = gr.Textbox(
            label="Sentence", placeholder="a dog on the beach", lines=1, max_lines=3
        )
        self.photo = photo("or a photo like the ones you look for")
        self.button = gr.Button("Search", variant="primary")
        with gr.Accordion("Filters", open=False):
            folder = gr.Textbox(label="Folder", placeholder="holidays/2024")
            since = gr.Textbox(label="Taken from", placeholder="2024, 2024-05 or 2024-05-01")
            until = gr.Textbox(label="Taken until", placeholder="2024, 2024-05 or 2024-05-01")
            cut = gr.Slider(
                0,
                100,
                100 * CUT,
                step=5,
                label="Confidence, in %",
                info="Below it a picture is no match. Counts for sentences.",
            )
            where = gr.Textbox(
                label="Condition",
                placeholder="width > 1000 and camera like '%Nikon%'",
                info="As miniclip search --where takes it.",
            )
            fold = gr.Checkbox(label="Show copies of a picture once")
        return [self.text, self.photo, folder, since, until, cut, where, fold]

    def _answer(self) -> None:
        self.said = sentence("Describe a picture, or choose a photo like the ones you look for.")
        self.gallery = gr.Gallery(
            label="Pictures",
            show_label=False,
            interactive=False,
            allow_preview=False,
            columns=4,
            height="auto",
            object_fit="cover",
            buttons=[],
            elem_classes="hits",
        )
        with gr.Row(visible=False, elem_classes="turning") as self.paging:
            self.back = gr.Button("Previous page", size="sm")
            self.on = gr.Button("Next page", size="sm")
        with gr.Column(visible=False, elem_classes="chosen") as self.picked:
            self.picture = gr.Image(
                label="The chosen picture", interactive=False, buttons=["fullscreen"], height=420
            )
            self.facts = sentence()
            with gr.Row():
                self.like = gr.Button("More like this", elem_classes="turning")
                self.save = gr.DownloadButton("Download")

    async def search(
        self,
        text: str | None,
        photo: str | None,
        folder: str | None,
        since: str | None,
        until: str | None,
        cut: float,
        where: str | None,
        fold: bool,
    ) -> list[Any]:
        text = text or ""
        if not text.strip() and not photo:
            raise ConfigError("write a sentence, or choose a photo")
        question = Search(
            text=text,
            images=[OnDisk(photo)] if photo else [],
            top=_TOP,
            where=await asyncio.to_thread(_condition, self._place(folder), since, until, where),
            min_confidence=cut / 100 if text.strip() else None,
            near_duplicates=fold,
        )
        return await self._show(question)

    async def more_like(self, shown: Shown) -> list[Any]:
        chosen = _hit(shown, shown.chosen).record.id
        where = shown.search.where if shown.search else None
        return await self._show(Search(like=[chosen], top=_TOP, where=where))

    async def turn_back(self, shown: Shown) -> Any:
        return await self._turn(shown, -1)

    async def turn_on(self, shown: Shown) -> Any:
        return await self._turn(shown, 1)

    async def _turn(self, shown: Shown, by: int) -> Any:
        if shown.search is None:
            raise ConfigError(_FORGOTTEN)
        if shown.search.page + by < 1:
            return gr.skip()
        return await self._show(replace(shown.search, page=shown.search.page + by))

    async def _show(self, question: Search) -> list[Any]:
        answer = await self._service.search(question)
        tiles = await asyncio.gather(*map(self._tile, answer.hits))
        several = answer.more or question.page > 1
        return [
            Shown(question, answer.hits),
            plain(_sentence(question, answer)),
            gr.Gallery(value=tiles, selected_index=None),
            gr.Button(interactive=question.page > 1),
            gr.Button(interactive=answer.more),
            gr.Row(visible=several),
            gr.Column(visible=False),
        ]

    async def _tile(self, hit: Found) -> tuple[str, str]:
        name = _name(hit)
        path = await self._kept(hit, _TILE)
        return path, f"{hit.cosine:.2f}{' ?' if hit.doubtful else ''}  {name}"

    async def pick(self, shown: Shown, event: gr.SelectData) -> list[Any]:
        chosen = event.index if isinstance(event.index, int) else 0
        hit = _hit(shown, chosen)
        path = await self._kept(hit, _LARGE)
        return [
            replace(shown, chosen=chosen),
            gr.Column(visible=True),
            gr.Image(value=path, label=_name(hit)),
            plain(_facts(hit)),
            gr.DownloadButton(value=path),
        ]

    def _place(self, folder: str | None) -> str | None:
        """Return what the index calls a folder, however it is written; None for all of it."""
        index, folder = self._service.index, (folder or "").strip()
        if not folder or index is None:
            return None
        base = index.location.base
        place = index.location.place(Path(os.path.normpath(base / folder if base else folder)))
        return None if place.path == os.curdir else place.path

    async def _kept(self, hit: Found, side: int) -> str:
        data, _ = await self._service.image(hit.record.id, side)
        return disk.keep(data, f"{_name(hit).rsplit('/', 1)[-1].rsplit('.', 1)[0]}.jpg")


def _hit(shown: Shown, number: int) -> Found:
    if number >= len(shown.hits):
        raise ConfigError(_FORGOTTEN)
    return shown.hits[number]


def _condition(*boxes: str | None) -> str | None:
    """Return the filters as one condition, None without any; ConfigError for what is none.

    boxes: folder, since, until, condition.
    """
    folder, since, until, where = ((box or "").strip() for box in boxes)
    if where:
        try:
            parse_where(where)  # by itself: a mistake is shown at its place in the box
        except ConfigError as error:
            why, *_ = str(error).splitlines()
            raise ConfigError(why.replace("--where", "condition", 1)) from None
    parts = [f"({where})"] if where else []
    if folder:
        quoted = folder.replace("'", "''")
        parts.append(f"folder = '{quoted}'")
    for operator, date in ((">=", since), ("<=", until)):
        if date and not _is_date(date):
            raise ConfigError(f"{date!r} is no date; write 2024, 2024-05 or 2024-05-01")
        parts += [f"taken {operator} {date}"] if date else []
    return " and ".join(parts) or None


def _is_date(text: str) -> bool:
    try:
        taken_between(text, None)
    except ConfigError:
        return False
    return bool(_DATE.fullmatch(text))  # a moment of a day has a colon, which a box need not know


def _sentence(question: Search, answer: Answer) -> str:
    what = _asked(question)
    count = len(answer.hits)
    if count:
        page = f"Page {question.page}: " if answer.more or question.page > 1 else ""
        found = f"{page}{count} picture{'s' * (count > 1)} for {what}, the best first."
        doubt = any(hit.doubtful for hit in answer.hits)
        return f"{found} ? marks what most likely is no match." if doubt else found
    if question.page > 1:
        return "There are no more pictures."
    if answer.closest:
        near = answer.closest
        return (
            f"Nothing here matches {what}. The closest is {_name(near)}, with a confidence of "
            f"{percent(near.confidence)}; lower the confidence under Filters to see more."
        )
    return f"Nothing here matches {what} with these filters."


def _asked(question: Search) -> str:
    text = [f'"{question.text.strip()}"'] if question.text.strip() else []
    return " and ".join([*text, *["this photo"] * bool(question.images or question.like)])


def _facts(hit: Found) -> str:
    record = hit.record
    size = f"{record.width} × {record.height}" if record.width else ""
    first = [_name(hit), size, (record.taken or "").replace("T", " "), record.camera or ""]
    score = [f"similarity {hit.cosine:.3f}, which ranks"]
    if hit.confidence is not None:
        score.append(f"confidence that it matches {percent(hit.confidence)}")
    alike = [f"shown once for {len(hit.alike)} more like it"] if hit.alike else []
    return "\n".join([_joined(first), _joined(score + alike), *record.captions])


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(filter(None, parts))


def _name(hit: Found) -> str:
    name = "/".join(filter(None, (hit.record.path, hit.record.member)))
    return name.encode("utf-8", "replace").decode()  # names of a disk may hold any bytes
