"""Images as rows of Milvus and back, and the words that its full text search sees; pure functions.

What an image lacks is a value that none can have, not a null: every comparison is then true or
false, in Milvus Lite and in a cluster alike. Bytes of a path that are no UTF-8 become characters
at the very end of Unicode.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from miniclip.errors import StoreError
from miniclip.index.store import ImageRecord, NewImage, Place

Row = Mapping[str, Any]

LONGEST_TEXT = 65_535  # bytes of UTF-8 that Milvus takes
MOST_TEXTS = 4_096  # captions or tags of one image, as many as Milvus takes
ABSENT = -1e300  # of a number
PRESENT = "="  # before every text that may be absent

# Columns that every row of an image has, and from which the image can be made again.
TEXTS = ("path", "path_folded", "member", "content", "taken", "camera", "camera_folded")
NUMBERS = ("size", "mtime", "width", "height", "latitude", "longitude")
LISTS = ("captions", "tags")
COLUMNS = (*TEXTS, *NUMBERS, "mtime_ns", *LISTS)

_ESCAPES = 0x10FF00  # + a byte: stands for that byte
_ESCAPED = re.compile("[\U0010ff80-\U0010ffff]")
_WORD = re.compile(r"[^\W_]+")


def row_of(image: NewImage) -> dict[str, Any]:
    """Return the columns; StoreError for texts that are longer or more than Milvus takes."""
    row = {
        "path": encoded(image.path),
        "path_folded": folded(encoded(image.path)),
        "member": encoded(image.member),
        "content": image.content.hex(),
        "taken": optional(image.taken),
        "camera": optional(image.camera),
        "camera_folded": folded(optional(image.camera)),
        "size": float(image.size),
        "mtime": image.mtime_ns / 1e9,
        "mtime_ns": image.mtime_ns,
        "width": float(image.width or ABSENT),
        "height": float(image.height or ABSENT),
        "latitude": ABSENT if image.latitude is None else float(image.latitude),
        "longitude": ABSENT if image.longitude is None else float(image.longitude),
        "captions": [text_of(caption) for caption in image.captions],
        "tags": [text_of(tag) for tag in image.tags],
    }
    _check(row, image.place)
    return row


def record_of(row: Row, number: int) -> ImageRecord:
    """Make the image again from its columns."""
    return ImageRecord(
        id=number,
        path=decoded(row["path"]),
        member=decoded(row["member"]),
        content=bytes.fromhex(row["content"]),
        size=int(row["size"]),
        mtime_ns=int(row["mtime_ns"]),
        width=0 if row["width"] == ABSENT else int(row["width"]),
        height=0 if row["height"] == ABSENT else int(row["height"]),
        taken=row["taken"].removeprefix(PRESENT) if row["taken"] else None,
        camera=row["camera"].removeprefix(PRESENT) if row["camera"] else None,
        latitude=None if row["latitude"] == ABSENT else float(row["latitude"]),
        longitude=None if row["longitude"] == ABSENT else float(row["longitude"]),
        captions=tuple(row["captions"]),
        tags=tuple(row["tags"]),
    )


def place_key(place: Place) -> str:
    """Return the key of a place, of 64 characters."""
    return hashlib.sha256(b"\0".join(map(os.fsencode, place))).hexdigest()


def text_key(text: str) -> str:
    """Return the key of a caption, of 64 characters."""
    return hashlib.sha256(text.encode()).hexdigest()


def text_of(text: str) -> str:
    """Replace what has no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def optional(text: str | None) -> str:
    """Write a text that may be absent."""
    return "" if text is None else PRESENT + text_of(text)


def encoded(path: str) -> str:
    """Write any path as valid text."""
    escaped = _ESCAPED.sub(lambda one: one[0].encode().decode("ascii", "surrogateescape"), path)
    return "".join(
        chr(ord(one) - 0xDC00 + _ESCAPES) if "\udc80" <= one <= "\udcff" else one for one in escaped
    )


def decoded(text: str) -> str:
    """Return the path that was `encoded`."""
    raw = _ESCAPED.sub(lambda one: chr(ord(one[0]) - _ESCAPES + 0xDC00), text)
    return raw.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def folded(text: str) -> str:
    """Make ASCII letters small, as `like` sees them."""
    return text.encode().lower().decode()  # bytes: only ASCII changes


def words_of(image: NewImage) -> str:
    """Return what full text search sees of an image: its place, captions and tags."""
    found = words((image.path, image.member, *image.captions, *image.tags))
    return found.encode()[:LONGEST_TEXT].decode(errors="ignore")


def words(texts: Iterable[str]) -> str:
    """Return the words of texts without accents and capitals, divided by spaces.

    Words with other than ASCII characters are spelled in hexadecimal, so that every tokenizer
    sees the same words.
    """
    text = unicodedata.normalize("NFKD", " ".join(texts).casefold())
    plain = "".join(one for one in text if not unicodedata.combining(one))
    found = _WORD.findall(plain)
    return " ".join(one if one.isascii() else f"x{_bytes(one).hex()}" for one in found)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _check(row: Row, place: Place) -> None:
    for column in (*TEXTS, *LISTS):
        values = row[column] if column in LISTS else [row[column]]
        if len(values) > MOST_TEXTS:
            raise StoreError(
                f"{place} has {len(values)} {column}; Milvus holds {MOST_TEXTS}: leave some out"
            )
        longest = max((len(value.encode()) for value in values), default=0)
        if longest > LONGEST_TEXT:
            raise StoreError(
                f"{column} of {place} is {longest} bytes long; Milvus holds {LONGEST_TEXT}: "
                "shorten it"
            )
