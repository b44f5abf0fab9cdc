"""Which caption format a file has, seen by its content, and the readers of text and JSON formats.

The table of formats is `FORMATS`; tables and shards have readers of their own. It opens no image.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from miniclip.datasets.rows import (
    Columns,
    Row,
    line_name,
    record_rows,
    text_lines,
    unreadable,
)
from miniclip.datasets.shards import expand_shards, read_shards
from miniclip.datasets.tables import header_of, read_parquet, read_table
from miniclip.embed import Skipped
from miniclip.errors import ConfigError, DatasetError

_HEAD_BYTES = 1 << 20
_HEAD_LINES = 10  # a broken first line does not hide the format
_FLICKR = re.compile(r"^(?P<image>.+?)#\d+[ \t]+(?P<caption>.*)$")


class Head(NamedTuple):
    """The beginning of a file: what detection looks at."""

    path: Path
    data: bytes
    first_lines: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """A caption format.

    sign: what gives it away, in words. matches: whether a head has that sign.
    """

    name: str
    sign: str
    matches: Callable[[Head, Columns], bool]
    read: Callable[[Path, Columns], Iterator[Row | Skipped]]


def detect_format(captions: Path, columns: Columns) -> Format:
    """Find the format of a file by its content.

    Raises DatasetError that lists every format tried when none fits.
    """
    if not os.path.isfile(captions) and expand_shards(captions) not in ([], [captions]):
        return FORMATS["webdataset"]
    head = _head(captions)
    for candidate in FORMATS.values():
        if candidate.matches(head, columns):
            return candidate
    tried = "; ".join(f"{candidate.name} ({candidate.sign})" for candidate in FORMATS.values())
    raise DatasetError(
        f"{captions} begins with {head.first_lines[0][:80]!r}, which is no caption format; tried "
        f"{tried}. Name the columns if theirs are unusual, save it as UTF-8, or force a format"
    )


def format_named(name: str) -> Format:
    """Return the format of that name; ConfigError lists the names there are."""
    if name not in FORMATS:
        raise ConfigError(f"no caption format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def read_flickr(path: Path, _columns: Columns) -> Iterator[Row | Skipped]:
    """Lines such as `name.jpg#0<TAB>a caption` (Hodosh et al. 2013, Flickr8k.token.txt)."""
    for line in text_lines(path):
        if isinstance(line, Skipped):
            yield line
            continue
        where = line_name(path, line.number)
        found = _FLICKR.match(line.text)
        if found is None:
            yield Skipped(where, f"not like name.jpg#0<TAB>caption: {line.text[:80]!r}")
        else:
            yield Row(found["image"].strip(), found["caption"], where)


def read_coco(path: Path, _columns: Columns) -> Iterator[Row | Skipped]:
    """COCO captions: `images` (id, file_name) and `annotations` (image_id, caption)."""
    content = _json(path)
    if not isinstance(content, dict) or not _is_coco(content):
        raise DatasetError(
            f"{path} is no COCO captions file; it needs the lists `images` and `annotations`"
        )
    names = {
        image["id"]: image["file_name"]
        for image in content["images"]
        if isinstance(image, dict)
        and isinstance(image.get("id"), int | str)
        and isinstance(image.get("file_name"), str)
    }
    for number, annotation in enumerate(content["annotations"], start=1):
        where = f"{path.name} annotation {number}"
        if not isinstance(annotation, dict):
            yield Skipped(where, f"not a JSON object but {type(annotation).__name__}")
            continue
        image_id, caption = annotation.get("image_id"), annotation.get("caption")
        if not isinstance(image_id, int | str) or image_id not in names:
            yield Skipped(where, f"no image with id {image_id!r}")
        elif not isinstance(caption, str):
            yield Skipped(where, f"the caption is not text: {caption!r}")
        else:
            yield Row(names[image_id], caption, where)


def read_jsonl(path: Path, columns: Columns) -> Iterator[Row | Skipped]:
    """One JSON object a line, or one JSON list of such objects."""
    if _head(path).first_lines[0].lstrip().startswith("["):
        content = _json(path)
        for number, record in enumerate(content if isinstance(content, list) else [], start=1):
            yield from record_rows(record, columns, f"{path.name} record {number}")
        return
    for line in text_lines(path):
        if isinstance(line, Skipped):
            yield line
            continue
        where = line_name(path, line.number)
        try:
            record = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            yield Skipped(where, f"broken JSON: {error}")
        else:
            yield from record_rows(record, columns, where)


def _is_tar(head: Head, _columns: Columns) -> bool:
    return tarfile.is_tarfile(head.path)


def _is_parquet(head: Head, _columns: Columns) -> bool:
    return head.data.startswith(b"PAR1")


def _is_coco_head(head: Head, _columns: Columns) -> bool:
    starts = head.first_lines[0].lstrip().startswith("{")
    if not starts or not (b'"images"' in head.data or b'"annotations"' in head.data):
        return False
    try:
        return _is_coco(json.loads(head.first_lines[0]))
    except ValueError:
        return True  # an object that goes on after its first line, or after the head


def _is_coco(content: object) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    )


def _is_jsonl_head(head: Head, _columns: Columns) -> bool:
    return head.first_lines[0].lstrip().startswith(("{", "["))


def _is_table_head(head: Head, columns: Columns) -> bool:
    return header_of(head.first_lines[0], columns) is not None


def _is_flickr_head(head: Head, _columns: Columns) -> bool:
    return any(_FLICKR.match(line) for line in head.first_lines)


def _head(path: Path) -> Head:
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    first_lines = tuple(islice((line for line in lines if line.strip()), _HEAD_LINES))
    return Head(path, data, first_lines or ("",))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is broken JSON: {error}; write it again") from error


# In the order of detection: from the unmistakable to the loose.
FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("webdataset", "a tar file", _is_tar, lambda path, _: read_shards(path)),
        Format("parquet", "starts with PAR1", _is_parquet, read_parquet),
        Format("coco", "a JSON object with images and annotations", _is_coco_head, read_coco),
        Format("jsonl", "JSON objects with image and caption", _is_jsonl_head, read_jsonl),
        Format("table", "a header with image and caption columns", _is_table_head, read_table),
        Format("flickr", "lines name.jpg#0<TAB>caption", _is_flickr_head, read_flickr),
    )
}
