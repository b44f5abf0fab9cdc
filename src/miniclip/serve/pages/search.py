"""The page "Search": a sentence, a photo or both; filters; a gallery, and more like one of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from miniclip.errors import ConfigError
from miniclip.index.ask import Answer, Found
from miniclip.index.relevance import CUT
from miniclip.index.where import parse_where
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
            with gr.Column(scale=3, min_width=320):
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
                1,
                CUT,
                step=0.05,
                label="Confidence",
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
        self.said = sentence("Describe a picture, or drop one here.")
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
        with gr.Row(visible=False) as self.paging:
            self.back = gr.Button("Previous page", size="sm")
            self.on = gr.Button("Next page", size="sm")
        with gr.Column(visible=False) as self.picked:
            self.picture = gr.Image(
                label="The chosen picture", interactive=False, buttons=["fullscreen"], height=420
            )
            self.facts = sentence()
            with gr.Row():
                self.like = gr.Button("More like this")
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
            where=await asyncio.to_thread(_condition, folder, since, until, where),
            min_confidence=cut if text.strip() else None,
            near_duplicates=fold,
        )
        return await self._show(question)

    async def more_like(self, shown: Shown) -> list[Any]:
        chosen = shown.hits[shown.chosen].record.id
        where = shown.search.where if shown.search else None
        return await self._show(Search(like=[chosen], top=_TOP, where=where))

    async def turn_back(self, shown: Shown) -> Any:
        return await self._turn(shown, -1)

    async def turn_on(self, shown: Shown) -> Any:
        return await self._turn(shown, 1)

    async def _turn(self, shown: Shown, by: int) -> Any:
        if shown.search is None or shown.search.page + by < 1:
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
        score = percent(hit.confidence) if hit.confidence is not None else f"{hit.cosine:.2f}"
        return path, f"{score}  {name}"

    async def pick(self, shown: Shown, event: gr.SelectData) -> list[Any]:
        chosen = event.index if isinstance(event.index, int) else 0
        hit = shown.hits[chosen]
        path = await self._kept(hit, _LARGE)
        return [
            replace(shown, chosen=chosen),
            gr.Column(visible=True),
            gr.Image(value=path, label=_name(hit)),
            plain(_facts(hit)),
            gr.DownloadButton(value=path),
        ]

    async def _kept(self, hit: Found, side: int) -> str:
        data, _ = await self._service.image(hit.record.id, side)
        return disk.keep(data, f"{_name(hit).rsplit('/', 1)[-1].rsplit('.', 1)[0]}.jpg")


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
        if date and not _DATE.fullmatch(date):
            raise ConfigError(f"{date!r} is no date; write 2024, 2024-05 or 2024-05-01")
        parts += [f"taken {operator} {date}"] if date else []
    return " and ".join(parts) or None


def _sentence(question: Search, answer: Answer) -> str:
    what = f'"{question.text.strip()}"' if question.text.strip() else "this picture"
    count = len(answer.hits)
    if count:
        page = f"Page {question.page}: " if answer.more or question.page > 1 else ""
        return f"{page}{count} picture{'s' * (count > 1)} for {what}, the best first."
    if question.page > 1:
        return "There are no more pictures."
    if answer.closest:
        near = answer.closest
        return (
            f"Nothing here matches {what}. The closest is {_name(near)}, with a confidence of "
            f"{percent(near.confidence)}; lower the confidence under Filters to see more."
        )
    return f"Nothing here matches {what} with these filters."


def _facts(hit: Found) -> str:
    record = hit.record
    size = f"{record.width} × {record.height}" if record.width else ""
    first = [_name(hit), size, (record.taken or "").replace("T", " "), record.camera or ""]
    score = [f"similarity {hit.cosine:.3f}"]
    if hit.confidence is not None:
        score.insert(0, f"confidence {percent(hit.confidence)}")
    alike = [f"shown once for {len(hit.alike)} more like it"] if hit.alike else []
    return "\n".join([_joined(first), _joined(score + alike), *record.captions])


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(filter(None, parts))


def _name(hit: Found) -> str:
    name = "/".join(filter(None, (hit.record.path, hit.record.member)))
    return name.encode("utf-8", "replace").decode()  # names of a disk may hold any bytes
