"""What every page shares: the templates, thumbnails inside the file, and writing it.

A page is one file without requests: styles and thumbnails are in it, and only the map has a script,
its own. Whatever comes from file names or users is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from miniclip import __version__
from miniclip.atomic import replacing
from miniclip.errors import ImageError
from miniclip.images import ImageSource, decode

THUMBNAIL_SIDE = 320  # pixels of the longer side: sharp at 160 CSS pixels on a dense screen
JPEG_QUALITY = 80


def write_page(path: Path, template: str, *, command: str, **values: Any) -> None:
    """Render a template of `templates/` and write it whole or not at all; StoreError if it fails.

    command: what made the page; it stands in the footnote.
    """
    page = _environment().get_template(template)
    html = page.render(command=command, version=__version__, **values)
    with replacing(path) as stream:
        stream.write(html.encode("utf-8", errors="backslashreplace"))


def thumbnail(source: ImageSource | Path) -> str | None:
    """Return a small copy of an image as a data URI, or None when it cannot be read any more."""
    try:
        image = decode(source, at_least=THUMBNAIL_SIDE)
    except ImageError:
        return None
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return jpeg_uri(image)


def jpeg_uri(image: Image.Image, *, quality: int = JPEG_QUALITY) -> str:
    """Return an image as a data URI."""
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + b64encode(stream.getvalue()).decode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("miniclip.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["thumbnail"] = thumbnail
    environment.filters["counted"] = "{:,}".format
    return environment
