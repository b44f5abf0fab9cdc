"""Images inside other files: members of tar archives (WebDataset) and rows of Parquet tables.

Both are listed without reading an image and read image by image. Nothing is unpacked to the disk.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from miniclip.datasets.rows import CAPTION_KEYS, Row
from miniclip.datasets.shards import read_shards
from miniclip.errors import DatasetError, MissingExtraError
from miniclip.images import IMAGE_SUFFIXES

TAR, PARQUET = ".tar", ".parquet"
IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "picture")
_ROWS_AT_ONCE = 32


class Member(NamedTuple):
    """An image in an archive. offset, size: its range of bytes there; size None: in a table."""

    name: str
    offset: int = 0
    size: int | None = None


class TableRow(NamedTuple):
    """An image of a table: the number of its row as text, its bytes (none: b""), its captions."""

    name: str
    data: bytes
    captions: tuple[str, ...]


def is_archive(path: Path) -> bool:
    """Tell an archive by its name."""
    return os.path.splitext(path)[1].lower() in (TAR, PARQUET)  # noqa: PTH122 - hot loop


def list_archive(path: Path) -> Iterator[Member]:
    """Yield the images of an archive; hidden members are left out.

    DatasetError for one that is compressed or damaged (after what is whole) and for a table without
    a column of images, MissingExtraError for a table without pyarrow, OSError for unreadable files.
    """
    return _list_parquet(path) if path.suffix.lower() == PARQUET else _list_tar(path)


def tar_captions(path: Path) -> dict[int, tuple[str, ...]]:
    """Return the captions of the members of a WebDataset shard, by the offset of the image."""
    captions: dict[int, tuple[str, ...]] = {}
    for row in read_shards(path):
        if isinstance(row, Row) and row.source and (text := " ".join(row.caption.split())):
            at = row.source.offset
            captions[at] = (*captions.get(at, ()), text)
    return captions


def read_rows(path: Path, wanted: Collection[str]) -> Iterator[TableRow]:
    """Yield those rows of a table in their order, a few of them in memory at a time.

    Errors as for `list_archive`; a row whose image is missing has no bytes.
    """
    with _opened(path) as file:
        columns = _Columns.of(file)
        number = 0
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns.names):
            chosen = [row for row in range(len(batch)) if str(number + row) in wanted]
            for row in chosen:
                data, captions = columns.read(batch, row)
                yield TableRow(str(number + row), data, captions)
            number += len(batch)


def _list_tar(path: Path) -> Iterator[Member]:
    try:
        size = path.stat().st_size
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps every header
                if _is_image(member) and member.offset_data + member.size <= size:
                    yield Member(member.name, member.offset_data, member.size)
    except tarfile.TarError as error:
        raise DatasetError(f"compressed or damaged ({error}); unpack or replace it") from error


def _is_image(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name)
    hidden = name.name.startswith(".") or "__MACOSX" in name.parts
    return (
        member.isreg()
        and not member.issparse()
        and not hidden
        and name.suffix.lower() in IMAGE_SUFFIXES
    )


def _list_parquet(path: Path) -> Iterator[Member]:
    with _opened(path) as file:
        _Columns.of(file)
        yield from (Member(str(row)) for row in range(file.metadata.num_rows))


class _Columns(NamedTuple):
    """Where a table has its images (bytes, or structs of bytes and path) and its captions."""

    image: str
    caption: str | None

    @classmethod
    def of(cls, file: Any) -> _Columns:
        from pyarrow import types  # noqa: PLC0415 - optional

        def holds_bytes(kind: Any) -> bool:
            if types.is_struct(kind):
                return "bytes" in kind.names and holds_bytes(kind.field("bytes").type)
            return bool(types.is_binary(kind) or types.is_large_binary(kind))

        fields = {field.name: field.type for field in file.schema_arrow}
        binary = [name for name, kind in fields.items() if holds_bytes(kind)]
        usual = [name for name in binary if name.lower() in IMAGE_COLUMNS]
        if not usual and len(binary) != 1:
            raise DatasetError(
                f"a table without a column of image bytes (it has {', '.join(fields)}); "
                "call that column 'image'"
            )
        captions = [name for name in fields if name.lower() in CAPTION_KEYS]
        return cls((usual or binary)[0], next(iter(captions), None))

    @property
    def names(self) -> list[str]:
        return [self.image, *([self.caption] if self.caption else [])]

    def read(self, batch: Any, row: int) -> tuple[bytes, tuple[str, ...]]:
        image = batch[self.image][row].as_py()
        captions = batch[self.caption][row].as_py() if self.caption else None
        data = image.get("bytes") if isinstance(image, dict) else image
        return data or b"", _clean(captions if isinstance(captions, list) else [captions])


def _clean(captions: Sequence[object]) -> tuple[str, ...]:
    texts = (" ".join(text.split()) for text in captions if isinstance(text, str))
    return tuple(filter(None, texts))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a Parquet file; what pyarrow raises becomes DatasetError."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("A table of images", "parquet") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise DatasetError(f"cannot be read as Parquet ({error}); replace it") from error
