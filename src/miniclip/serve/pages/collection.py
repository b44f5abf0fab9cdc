"""The page "Collection": a map of the index, drawn once in the background, in a frame of its own.

The map is the page of `miniclip map`: a document with a script. It is shown in a sandbox, where it
can reach neither the server nor the page around it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from miniclip.errors import MiniClipError
from miniclip.images import ImageSource
from miniclip.index.collection_map import draw_map, sample, word_vectors
from miniclip.index.reading import sources_of
from miniclip.index.store import ImageRecord
from miniclip.report.map import Pictured, write_map_page
from miniclip.serve.pages.frame import plain, sentence, told
from miniclip.serve.pages.search import NO_INDEX
from miniclip.serve.service import Service

ROUTE = "/collection/map"
_MOST = 4000  # images on the map; of more, a sample
_TILE = 192  # pixels of what a tile is made of
_AT_ONCE = 4  # tiles in the decoders' hands: questions come first
_HEADERS = {
    "content-security-policy": "sandbox allow-scripts; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'self'",
    "x-frame-options": "SAMEORIGIN",
    "cache-control": "no-store",
}
_FRAME = (
    f'<iframe src="{ROUTE}?{{stamp}}" title="Map of the collection" sandbox="allow-scripts" '
    'class="map"></iframe>'
)


class Maps:
    """The map of the index as it is; made when first asked for and when the index has changed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._making: asyncio.Task[bytes] | None = None
        self._stamp = ""
        self.done, self.total = 0, 0

    @property
    def page(self) -> bytes | None:
        """The document, once it is there: some megabytes."""
        making = self._making
        if making and making.done() and not making.cancelled() and not making.exception():
            return making.result()
        return None

    async def stamp(self) -> str:
        """Begin a map, unless there is one of this index or it is being made; return its name."""
        index = self._service.index
        assert index is not None  # the page says so instead
        ids = await asyncio.to_thread(index.store.ids)
        stamp = f"{len(ids)}-{int(ids.max(initial=0))}"
        idle = self._making is None or self._making.done()
        if idle and (self.page is None or stamp != self._stamp):
            self._stamp, self.done, self.total = stamp, 0, min(len(ids), _MOST)
            self._making = asyncio.create_task(
                asyncio.to_thread(self._make, ids, asyncio.get_running_loop())
            )
        return self._stamp

    async def ready(self, seconds: float) -> bool:
        """Wait so long; whether it is there. Raises why it cannot be made."""
        assert self._making is not None  # `stamp` comes first
        done, _ = await asyncio.wait([self._making], timeout=seconds)
        return bool(done) and bool(self._making.result())

    def _make(self, ids: Any, loop: asyncio.AbstractEventLoop) -> bytes:
        service, index = self._service, self._service.index
        assert index is not None
        images, embeddings = index.store.embedded(sample(ids, at_most=_MOST).tolist())
        drawn = draw_map(
            [image.id for image in images],
            embeddings,
            word_vectors(service.encoder),
            total=len(ids),
        )

        def sources(wanted: Sequence[int]) -> list[ImageSource]:
            waiting = self._tiles(index.store.records(wanted), wanted)
            return asyncio.run_coroutine_threadsafe(waiting, loop).result()

        def progress(done: int) -> None:
            self.done = done

        with TemporaryDirectory() as folder:
            path = Path(folder, "map.html")
            write_map_page(
                path,
                drawn,
                [
                    Pictured(_name(image), caption=next(iter(image.captions), ""))
                    for image in images
                ],
                sources,
                title="Map of the collection",
                command="miniclip serve",
                progress=progress,
            )
            return path.read_bytes()

    async def _tiles(
        self, records: Sequence[ImageRecord], wanted: Sequence[int]
    ) -> list[ImageSource]:
        """Return small copies that the decoders made; an empty one for what they cannot read."""
        service = self._service
        assert service.index is not None
        places = await asyncio.to_thread(sources_of, service.index.location, records)
        room = asyncio.Semaphore(_AT_ONCE)

        async def small(source: ImageSource) -> ImageSource:
            async with room:
                try:
                    return ImageSource("tile", data=await service.decoders.thumbnail(source, _TILE))
                except MiniClipError:
                    return ImageSource("tile", data=b"")

        tiles = await asyncio.gather(*map(small, places))
        found = {record.id: tile for record, tile in zip(records, tiles, strict=True)}
        return [found.get(number, ImageSource("deleted", data=b"")) for number in wanted]


_MAPS: WeakKeyDictionary[Service, Maps] = WeakKeyDictionary()


def maps_of(service: Service) -> Maps:
    """Return the maps of a service, the same each time."""
    return _MAPS.setdefault(service, Maps(service))


def build(service: Service) -> None:
    """Build the page, inside its tab."""
    if service.index is None:
        sentence(NO_INDEX)
        return
    maps = maps_of(service)

    async def show() -> AsyncIterator[list[Any]]:
        """Yield what is done until the map is there."""
        stamp = await maps.stamp()
        while not await maps.ready(1.0):
            told_so_far = f"{maps.done:,} of {maps.total:,} pictures" if maps.done else "placing"
            yield [plain(f"The map is being drawn: {told_so_far}."), gr.skip()]
        yield ["", gr.Markdown(_FRAME.format(stamp=stamp), visible=True)]

    sentence("What looks alike lies together. The first map of a collection takes a while.")
    button = gr.Button("Show the map", variant="primary")
    said = sentence()
    # The element is ours; gr.HTML would need a looser content security policy.
    frame = gr.Markdown(visible=False, sanitize_html=False, latex_delimiters=[])
    button.click(told(show), None, [said, frame])


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the route of the map's own document."""
    maps = maps_of(service)

    @app.get(ROUTE, include_in_schema=False)
    async def collection_map() -> Response:
        if maps.page is None:
            return Response("there is no map yet\n", 404)
        return HTMLResponse(maps.page, headers=_HEADERS)


def _name(image: ImageRecord) -> str:
    name = "/".join(filter(None, (image.path, image.member)))
    return name.encode("utf-8", "replace").decode()
