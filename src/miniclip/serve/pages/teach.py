"""The page "Teach": a classifier from uploaded photos, its figures, and the model to take home.

Photos come with a class that is typed, in zips with a folder for each class, or are given one
here, one after another. What is learnt lies in lesson.py and teaching.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import gradio as gr

from miniclip.errors import DatasetError, ImageError
from miniclip.images import IMAGE_SUFFIXES
from miniclip.probe.fit import Fitted
from miniclip.probe.fit_settings import FitSettings
from miniclip.probe.heads.head import FITTED_KINDS
from miniclip.probe.learn import DEFAULT_HEAD
from miniclip.probe.model import REPORT_FILE
from miniclip.probe.results import FitResult
from miniclip.report.classifier import write_fit_report
from miniclip.serve.lesson import Lesson, Limits, checked_label
from miniclip.serve.pages import disk
from miniclip.serve.pages.frame import plain, sentence, told
from miniclip.serve.pages.handed import thumbnail
from miniclip.serve.service import Service
from miniclip.serve.teaching import Teaching, zipped

_MODEL = "model"  # the folder in the zip
_DONE = (
    "Done. The zip holds the model and its report; unpack it and run: miniclip predict model PHOTOS"
)
_PRIVATE: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
_NO_PHOTOS = (
    "Add photos of at least two classes. Ten of each are a beginning, a hundred of each are better."
)


class _Asking(NamedTuple):
    """The components that show the photo which waits for a class."""

    place: gr.Column
    picture: gr.Image
    question: gr.Markdown
    label: gr.Dropdown


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    settings = service.settings
    limits = Limits(settings.lesson_images, settings.lesson_bytes, settings.max_bytes)
    gr.Markdown(
        f"Teach a classifier with photos of your own, at most {limits.images:,} of them and "
        f"{limits.bytes >> 20:,} MB. They do not leave the server and are deleted soon after."
    )
    lesson = gr.State(Lesson())
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            counts = _add_files(lesson, limits)
            asking = _label_photos(lesson, counts)
            head = gr.Dropdown(list(FITTED_KINDS), value=DEFAULT_HEAD, label="Kind of classifier")
            with gr.Row():
                start = gr.Button("Teach", variant="primary")
                again = gr.Button("Begin again")
        with gr.Column(scale=2, min_width=280):
            said = sentence()
            figures = gr.Markdown(latex_delimiters=[])
            confusion = gr.Dataframe(
                label="Held-out photos: a row for each class, a column for each answer",
                interactive=False,
                visible=False,
                type="array",
                buttons=[],
            )
            download = gr.DownloadButton("Download the model", interactive=False)
    teaching = Teaching(service)

    @told
    async def teach(lesson: Lesson, head: str) -> AsyncIterator[tuple[Any, ...]]:
        done = [gr.skip(), gr.skip(), gr.skip()]
        async for news in teaching.teach(lesson, FitSettings(head=head)):
            if isinstance(news, Fitted):
                model = await asyncio.to_thread(_packed, service, news)
                done = [
                    _figures(news.result, len(lesson.unlabelled)),
                    _confusion(news.result),
                    gr.update(value=disk.keep(model, "model.zip"), interactive=True),
                ]
                yield plain(_DONE), *done
            else:
                yield plain(f"{news} ..."), *done

    @told
    async def begin_again() -> tuple[Any, ...]:
        return (
            Lesson(),
            plain(_NO_PHOTOS),
            "",
            "",
            gr.update(visible=False),
            gr.update(value=None, interactive=False),
        )

    shown = [said, figures, confusion, download]
    running = start.click(teach, [lesson, head], shown, **_PRIVATE)
    again.click(begin_again, None, [lesson, counts, *shown], cancels=running, **_PRIVATE)
    lesson.change(told(_next_photo(service)), lesson, list(asking), **_PRIVATE)


def _add_files(lesson: gr.State, limits: Limits) -> gr.Markdown:
    """Build what takes photos in; return the place that counts them."""
    label = gr.Textbox(
        label="Class of what you add",
        info="Empty for a zip with a folder for each class, or to label the photos one by one.",
    )
    files = gr.File(
        label="Photos of one class, or zips",
        file_count="multiple",
        file_types=["image", ".zip"],
        height=160,
    )
    with gr.Row():
        add = gr.Button("Add")
        folder = gr.UploadButton("Add a folder of the class", file_count="directory")
    counts = sentence(_NO_PHOTOS)

    @told
    async def add_files(
        lesson: Lesson, paths: list[str] | None, label: str
    ) -> tuple[Lesson, str, None, str]:
        chosen = [Path(path) for path in paths or []]
        fuller = await asyncio.to_thread(lesson.with_files, chosen, label, limits)
        return fuller, plain(str(fuller)), None, ""

    @told
    async def add_folder(lesson: Lesson, paths: list[str] | None, label: str) -> Any:
        found = [path for path in paths or [] if Path(path).suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise DatasetError("the folder holds no photos")
        return await add_files(lesson, found, checked_label(label))

    gr.on(
        [add.click, label.submit],
        add_files,
        [lesson, files, label],
        [lesson, counts, files, label],
        **_PRIVATE,
    )
    folder.upload(add_folder, [lesson, folder, label], [lesson, counts, folder, label], **_PRIVATE)
    return counts


def _label_photos(lesson: gr.State, counts: gr.Markdown) -> _Asking:
    """Build what asks for the class of one photo after another; it shows while there are any."""
    with gr.Column(visible=False) as place:
        question = sentence()
        picture = gr.Image(
            label="A photo without a class",
            alt_text="the photo that waits for its class",
            height=200,
            interactive=False,
            buttons=[],
        )
        label = gr.Dropdown(
            [], label="Its class", info="Choose one, or write a new one.", allow_custom_value=True
        )
        with gr.Row():
            give = gr.Button("Label it", variant="primary")
            drop = gr.Button("Leave it out")

    @told
    async def label_first(lesson: Lesson, label: str | None) -> tuple[Lesson, str]:
        if lesson.unlabelled:
            lesson = lesson.labelled(lesson.unlabelled[0].name, label or "")
        return lesson, plain(str(lesson))

    @told
    async def drop_first(lesson: Lesson) -> tuple[Lesson, str]:
        if lesson.unlabelled:
            lesson = lesson.without(lesson.unlabelled[0].name)
        return lesson, plain(str(lesson))

    give.click(label_first, [lesson, label], [lesson, counts], **_PRIVATE)
    drop.click(drop_first, lesson, [lesson, counts], **_PRIVATE)
    return _Asking(place, picture, question, label)


def _next_photo(service: Service) -> Any:
    async def show(lesson: Lesson) -> tuple[Any, ...]:
        if not lesson.unlabelled:
            return gr.update(visible=False), None, "", gr.skip()
        one = lesson.unlabelled[0]
        try:
            picture = await thumbnail(service, await asyncio.to_thread(one.read))
        except ImageError:  # it can still be left out
            picture = None
        left = len(lesson.unlabelled)
        return (
            gr.update(visible=True),
            picture,
            plain(f"{one.name}, {left} to be labelled"),
            gr.update(choices=list(lesson.classes)),
        )

    return show


def _packed(service: Service, fitted: Fitted) -> bytes:
    """Return a zip of the model with its report, which shows photos by name alone."""
    result = fitted.result
    with TemporaryDirectory() as folder:
        page = Path(folder) / REPORT_FILE
        write_fit_report(
            page,
            result,
            files={},
            encoder=service.encoder,
            heads=fitted.learnt.heads,
            command=result.reproduce,
        )
        report = page.read_bytes()
    return zipped(fitted.contents() | {REPORT_FILE: report}, _MODEL)


def _figures(result: FitResult, waiting: int) -> str:
    """Say how good the classifier is on photos that it had not seen.

    waiting: photos that nobody has given a class.
    """
    scores, conformal = result.figures.scores, result.figures.conformal
    rows = [
        f"**Accuracy {scores.accuracy}** on photos that it has not learnt from.",
        plain(result.protocol),
        plain(f"Mean F1 of the classes {scores.macro_f1}; calibration error {scores.ece}."),
        plain(f"Sets of {conformal.set_size:.1f} labels hold the right one: {conformal.coverage}."),
        plain(f"To expect of new photos: {result.figures.abstention.promise()}."),
        *[plain(f"Mind: {waiting} without a class, of which it learnt nothing.")] * bool(waiting),
        *(plain(f"Mind: {warning}.") for warning in result.warnings),
        *(plain(f"Left out, {one.name}: {one.reason}") for one in result.skipped[:10]),
    ]
    return "\n\n".join(rows)


def _confusion(result: FitResult) -> Any:
    counts = result.figures.scores.confusion
    rows = [[name, *map(str, row)] for name, row in zip(result.classes, counts, strict=True)]
    return gr.update(value={"headers": ["class", *result.classes], "data": rows}, visible=True)
