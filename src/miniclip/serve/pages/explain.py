"""The page "Explain": what in a photo speaks for a sentence, one of its words, or a class.

The map and the verdict on it come from the service; report/overlay.py lays the one over the photo.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import gradio as gr

from miniclip.explain.credibility import Credibility
from miniclip.explain.explanation import DEFAULT, METHODS
from miniclip.explain.words import Word
from miniclip.report.overlay import View, map_sheet
from miniclip.serve.pages import disk
from miniclip.serve.pages.frame import photo as one_photo
from miniclip.serve.pages.frame import plain, sentence, told, wanted_photo
from miniclip.serve.pages.latest import Latest
from miniclip.serve.service import Explained, Service

_SENTENCE, _CLASS = "a sentence", "a class"
_LIKELIEST = "the likeliest"
_VIEWS: tuple[View, ...] = ("smooth", "patches")
_WORTH = {
    "better than chance": "This map is better than chance",
    "no better than the middle": "Do not rely on this map: a spot in the middle of the photo "
    "explains the score as well",
    "no better than chance": "Do not rely on this map: it is no better than chance",
}
_PRIVATE: dict[str, Any] = {"concurrency_limit": None, "api_visibility": "private"}
_Shown = tuple[str, str, str, dict[str, str]]


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    latest: Latest[Explained] = Latest()
    gr.Markdown(
        "See what in a photo speaks for a sentence or for a class of a classifier. "
        "This asks the model some hundred times and takes its time."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            photo = one_photo()
            asked = _subject(service)
            with gr.Accordion("Method", open=False):
                method = gr.Dropdown(list(METHODS), value=DEFAULT, label="Method")
            ask = gr.Button("Explain", variant="primary")
        with gr.Column(scale=2, min_width=280):
            score = sentence("Choose a photo and write a sentence.")
            worth = sentence()
            view = gr.Radio(list(_VIEWS), value=_VIEWS[0], label="Show the map")
            sheet = gr.Image(
                label="Map: red speaks for it, blue against it",
                alt_text="the map over the photo",
                interactive=False,
                buttons=["download"],
                elem_classes="sheet",
            )
            views, words = gr.State({}), gr.State(())
            shown = [score, worth, sheet, views]

            def show(said: tuple[Word, ...]) -> None:
                for button, word in _word_buttons(said):
                    button.click(told(explain_word(word)), [photo, method, view], shown, **_PRIVATE)

            gr.render(inputs=words, concurrency_limit=None)(show)

    def explain_word(word: str) -> Callable[..., Awaitable[Any]]:
        async def explain(path: str | None, method: str, view: str, request: gr.Request) -> Any:
            ask = partial(service.explain, wanted_photo(path), text=word, method=method)
            said = await latest.ask(_visit(request), ask)
            return await _shown(said, view) if said else gr.skip()

        return explain

    @told
    async def explain(given: dict[Any, Any], request: gr.Request) -> Any:
        upload, how = wanted_photo(given[photo]), given[method]
        if given[asked.what] == _CLASS:
            label = None if given[asked.label] == _LIKELIEST else given[asked.label]
            about = {"model": given[asked.model], "label": label}
        else:
            about = {"text": given[asked.sentence]}
        ask = partial(service.explain, upload, method=how, **about)
        said = await latest.ask(_visit(request), ask)
        if not said:
            return gr.skip()
        found = said.question.words
        return *await _shown(said, given[view]), found if len(found) > 1 else ()

    @told
    async def turn(views: Mapping[str, str], view: str) -> str | None:
        return views.get(view)

    @told
    async def leave(request: gr.Request) -> None:
        latest.leave(_visit(request))

    given = {photo, *asked, method, view}
    asking = [ask.click, asked.sentence.submit]
    gr.on(asking, explain, given, [*shown, words], trigger_mode="multiple", **_PRIVATE)
    document = gr.context.Context.root_block
    assert isinstance(document, gr.Blocks)  # pages are built inside one
    document.unload(leave)
    view.change(turn, [views, view], sheet, **_PRIVATE)


def _visit(request: gr.Request) -> str:
    """Return what is the same for all that one open page asks."""
    return request.session_hash or ""


class _Subject(NamedTuple):
    what: gr.Radio
    sentence: gr.Textbox
    model: gr.Dropdown
    label: gr.Dropdown


def _subject(service: Service) -> _Subject:
    """Build the choice of what is explained: a sentence, or a class where there are classifiers."""
    models = list(service.models)
    first = models[0] if models else None
    what = gr.Radio([_SENTENCE, _CLASS], value=_SENTENCE, label="Explain", visible=bool(models))
    sentence = gr.Textbox(label="Sentence", placeholder="a dog on the beach")
    model = gr.Dropdown(models, value=first, label="Classifier", visible=False)
    label = gr.Dropdown(_labels(service, first), value=_LIKELIEST, label="Class", visible=False)

    @told
    async def choose(what: str) -> list[dict[str, Any]]:
        return [gr.update(visible=(what == _CLASS) is classes) for classes in (False, True, True)]

    @told
    async def change(model: str) -> Any:
        return gr.update(choices=_labels(service, model), value=_LIKELIEST)

    what.change(choose, what, [sentence, model, label], **_PRIVATE)
    model.change(change, model, label, **_PRIVATE)
    return _Subject(what, sentence, model, label)


def _labels(service: Service, model: str | None) -> list[str]:
    return [_LIKELIEST, *(service.model(model).model.classes if model else ())]


def _word_buttons(words: Sequence[Word]) -> Iterator[tuple[gr.Button, str]]:
    """Draw a button for each word, the weightiest one in colour."""
    if not words:
        return
    gr.Markdown("What each word adds to the score. Choose one to see its own map.")
    most = max(word.drop for word in words)
    with gr.Row(elem_classes="words"):
        for word in words:
            variant: Literal["primary", "secondary"] = (
                "primary" if word.drop == most else "secondary"
            )
            text = f"{word.word} {word.drop:+.3f}"
            yield gr.Button(text, variant=variant, size="sm", min_width=60, scale=0), word.word


async def _shown(said: Explained, view: str) -> _Shown:
    """Return what the page shows of a map: score, worth, the view that is wanted, both views."""
    views = await asyncio.to_thread(_views, said)
    worth = _worth(said.found.credibility)
    return plain(str(said.question)), plain(worth), views[view], views


def _worth(found: Credibility) -> str:
    return (
        f"{_WORTH[found.verdict]}. Of {len(found.random)} random maps that are as smooth, "
        f"{found.as_good} did at least as well (p = {found.p:.2f})."
    )


def _views(said: Explained) -> dict[str, str]:
    """Draw the map in each view; return where the pictures are."""
    paths: dict[str, str] = {}
    for view in _VIEWS:
        png = io.BytesIO()
        map_sheet(said.picture, said.found, view=view).save(png, "PNG")
        paths[view] = disk.keep(png.getvalue(), f"map-{view}.png")
    return paths
