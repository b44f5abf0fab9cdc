"""The page of `miniclip map`: thumbnails in the plane, to pan, zoom and walk through by keyboard.

One file: thumbnails stand in a few large JPEG sheets, and a script of its own draws them. The page
asks for nothing, which its content security policy enforces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from miniclip.embed import Progress
from miniclip.errors import ImageError
from miniclip.images import ImageSource, decode
from miniclip.index.collection_map import CollectionMap
from miniclip.report.page import jpeg_uri, write_page

_SHEET_SIDE = 2_048  # pixels; every browser takes images of this size
_TILE_SIDES = ((1_500, 96), (6_000, 64))  # up to so many images: pixels of a thumbnail
_SMALLEST_TILE = 40
_QUALITY = 72
_AT_ONCE = 64  # sources held in memory


@dataclass(frozen=True)
class Pictured:
    """An image of the map as a person sees it: its name, a link that opens it, a caption or ""."""

    name: str
    link: str = ""
    caption: str = ""


def write_map_page(
    path: Path,
    drawn: CollectionMap,
    pictured: Sequence[Pictured],
    sources: Callable[[Sequence[int]], Sequence[ImageSource]],
    *,
    title: str,
    command: str,
    progress: Progress | None = None,
) -> None:
    """Write the page; StoreError if it fails.

    pictured: one for each of drawn.ids; sources: where the images of some ids are, asked for in
    small groups. An image that cannot be read any more is an empty tile.
    """
    tile = next((side for most, side in _TILE_SIDES if len(drawn.ids) <= most), _SMALLEST_TILE)
    sheets = [jpeg_uri(s, quality=_QUALITY) for s in _sheets(drawn.ids, sources, tile, progress)]
    data: dict[str, Any] = {
        "tile": tile,
        "columns": _SHEET_SIDE // tile,
        "x": [round(float(x), 4) for x in drawn.xy[:, 0]],
        "y": [round(float(y), 4) for y in drawn.xy[:, 1]],
        "cluster": drawn.cluster_of.tolist(),
        "name": [image.name for image in pictured],
        "link": [image.link for image in pictured],
        "caption": [image.caption for image in pictured],
        "clusters": [vars(cluster) for cluster in drawn.clusters],
    }
    write_page(
        path,
        "map.html",
        command=command,
        title=title,
        drawn=drawn,
        sheets=sheets,
        data=_script_safe(data),
    )


def _sheets(
    ids: Sequence[int],
    sources: Callable[[Sequence[int]], Sequence[ImageSource]],
    tile: int,
    progress: Progress | None,
) -> Iterator[Image.Image]:
    """Yield sheets of tiles, row by row, in the order of the ids; the last is cut to its rows."""
    columns = _SHEET_SIDE // tile
    thumbnails = _thumbnails(ids, sources, tile)
    done = 0
    while part := list(islice(thumbnails, columns * columns)):
        rows = -(-len(part) // columns)
        sheet = Image.new("RGB", (min(len(part), columns) * tile, rows * tile), (128, 128, 128))
        for place, thumbnail in enumerate(part):
            if thumbnail:
                sheet.paste(thumbnail, (place % columns * tile, place // columns * tile))
        done += len(part)
        if progress:
            progress(done)
        yield sheet


def _thumbnails(
    ids: Sequence[int], sources: Callable[[Sequence[int]], Sequence[ImageSource]], tile: int
) -> Iterator[Image.Image | None]:
    def shrink(source: ImageSource) -> Image.Image | None:
        try:
            image = decode(source, at_least=2 * tile)
        except ImageError:
            return None
        return ImageOps.fit(image, (tile, tile), Image.Resampling.LANCZOS)

    with ThreadPoolExecutor(thread_name_prefix="miniclip-thumbnail") as pool:
        for start in range(0, len(ids), _AT_ONCE):
            yield from pool.map(shrink, sources(ids[start : start + _AT_ONCE]))


def _script_safe(data: dict[str, Any]) -> str:
    """Return JSON that may stand inside a script element, whatever file names hold."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
