"""Images on any file system that Arrow or fsspec knows: files, members of tar shards, table rows.

It lists and reads bytes; it decodes nothing. A place is a path or a URI such as
"s3://bucket/photos?region=eu-central-1"; credentials are those that Arrow finds by itself.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from miniclip.errors import DatasetError, MissingExtraError
from miniclip.images import IMAGE_SUFFIXES

_READERS = 8  # requests on their way to a store that answers slowly
_HOLD_IMAGES = (".tar", ".parquet")
_NAMELESS = "its name is not UTF-8, which Arrow cannot read; rename it"
_TABLE_COLUMNS = ("image", "jpg", "png", "bytes")


class FarImage(NamedTuple):
    """Where the bytes of an image lie.

    name: what people see. root: the place it was listed from, which tells the file system; path: of
    the file therein. offset, size: of a member of a tar shard. row: of a table, -1 otherwise.
    wrong: why it cannot be read, if listing has shown that.
    """

    name: str
    root: str
    path: str
    offset: int = 0
    size: int = -1
    row: int = -1
    wrong: str = ""


def list_images(root: str) -> Iterator[FarImage]:
    """Yield the images at a place, folder by folder, by name. DatasetError when it is not there."""
    files, path = file_system(root)
    pa = _pyarrow()
    try:
        found = files.get_file_info(path)
        if found.type == pa.fs.FileType.NotFound:
            raise DatasetError(f"there is nothing at {root}; check the place and the credentials")
        stack = [found]
        while stack:
            entry = stack.pop()
            if entry.type == pa.fs.FileType.Directory:
                named, nameless = _by_name(files.get_file_info(pa.fs.FileSelector(entry.path)))
                stack += reversed(named)
                for name in nameless:
                    yield FarImage(name, root, entry.path, wrong=_NAMELESS)
            else:
                yield from _images_in(files, root, entry.path)
    except OSError as error:
        raise DatasetError(f"{root} cannot be listed ({error}); check the credentials") from error
    except UnicodeEncodeError as error:
        raise DatasetError(f"{root}: {_NAMELESS}") from error


def read_images(images: Sequence[FarImage]) -> list[bytes | str]:
    """Return the bytes of each image, or why there are none."""
    return list(_pool().map(_read, images))


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_READERS, thread_name_prefix="miniclip-read")


@lru_cache(maxsize=16)
def file_system(place: str) -> tuple[Any, str]:
    """Return Arrow's file system for a path or a URI, and the path therein.

    DatasetError for an unknown one, MissingExtraError without pyarrow.
    """
    pa = _pyarrow()
    if "://" not in place:
        return pa.fs.LocalFileSystem(), str(Path(place).absolute())
    try:
        files, path = pa.fs.FileSystem.from_uri(place)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        files, path = _fsspec(pa, place)
    return files, path


def _fsspec(pa: Any, place: str) -> tuple[Any, str]:
    try:
        import fsspec  # noqa: PLC0415 - optional

        files, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise DatasetError(
            f"no file system is known for {place} ({error}); install the fsspec package for it"
        ) from error
    return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(files)), path


def _by_name(entries: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """Sort what a folder holds by path; apart, names that Arrow cannot say, of what may matter."""
    named: dict[str, Any] = {}
    nameless = []
    for entry in entries:
        try:
            named[entry.path] = entry
        except UnicodeDecodeError as error:
            name = error.object.decode(errors="backslashreplace")
            suffix = PurePosixPath(name).suffix.lower()
            if not entry.is_file or suffix in IMAGE_SUFFIXES or suffix in _HOLD_IMAGES:
                nameless.append(name)
    return [named[path] for path in sorted(named)], sorted(nameless)


def _images_in(files: Any, root: str, path: str) -> Iterator[FarImage]:
    """Yield a file that is an image, or what is in a file that holds images."""
    suffix = PurePosixPath(path).suffix.lower()
    scheme, colon, _ = root.partition("://")
    name = f"{scheme}{colon}{path.lstrip('/')}" if colon else path
    if suffix in IMAGE_SUFFIXES:
        yield FarImage(name, root, path)
        return
    inside = {".tar": _members, ".parquet": _rows}.get(suffix)
    if inside is None:
        return
    try:
        yield from inside(files, FarImage(name, root, path))
    except (OSError, ValueError, tarfile.TarError) as error:  # ArrowInvalid is a ValueError
        yield FarImage(name, root, path, wrong=f"it cannot be listed ({error}); restore it")


def _members(files: Any, shard: FarImage) -> Iterator[FarImage]:
    with (
        files.open_input_file(shard.path) as stream,
        tarfile.open(fileobj=stream, mode="r:") as tar,
    ):
        for member in tar:
            if member.isfile() and PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES:
                yield shard._replace(
                    name=f"{shard.name}#{member.name}", offset=member.offset_data, size=member.size
                )


def _rows(files: Any, table: FarImage) -> Iterator[FarImage]:
    _pyarrow()
    from pyarrow import parquet  # noqa: PLC0415

    with files.open_input_file(table.path) as stream:
        opened = parquet.ParquetFile(stream)
        _image_column(opened)
        for row in range(opened.metadata.num_rows):
            yield table._replace(name=f"{table.name}#{row}", row=row)


def _image_column(opened: Any) -> str:
    """Return the column of a table whose cells are images, as `datasets` of Hugging Face writes."""
    names = set(opened.schema_arrow.names)
    for name in _TABLE_COLUMNS:
        if name in names:
            return name
    raise ValueError(f"it has none of the columns {', '.join(_TABLE_COLUMNS)}")


def _read(image: FarImage) -> bytes | str:
    if image.wrong:
        return image.wrong
    try:
        files, _ = file_system(image.root)
        if image.row >= 0:
            return _cell(image)
        with files.open_input_file(image.path) as stream:
            if image.size < 0:
                return bytes(stream.readall())
            return bytes(stream.read_at(image.size, image.offset))
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error}); check the place and run the command again"


def _cell(image: FarImage) -> bytes:
    group, first = _group_of(image.root, image.path, image.row)
    cell = _column(image.root, image.path, group)[image.row - first].as_py()
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise ValueError(f"row {image.row} holds no bytes")
    return content


def _group_of(root: str, path: str, row: int) -> tuple[int, int]:
    """Return the row group of a row, and its first row."""
    first = 0
    for group, count in enumerate(_group_sizes(root, path)):
        if row < first + count:
            return group, first
        first += count
    raise ValueError(f"it has only {first} rows now")


@lru_cache(maxsize=16)
def _group_sizes(root: str, path: str) -> tuple[int, ...]:
    from pyarrow import parquet  # noqa: PLC0415

    with file_system(root)[0].open_input_file(path) as stream:
        about = parquet.ParquetFile(stream).metadata
        return tuple(about.row_group(group).num_rows for group in range(about.num_row_groups))


@lru_cache(maxsize=2)  # neighbours of a row are asked for next
def _column(root: str, path: str, group: int) -> Any:
    from pyarrow import parquet  # noqa: PLC0415

    with file_system(root)[0].open_input_file(path) as stream:
        opened = parquet.ParquetFile(stream)
        return opened.read_row_group(group, columns=[_image_column(opened)]).column(0)


def _pyarrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 - optional
        import pyarrow.fs  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("embedding into a folder of shards", "parquet") from error
    return pyarrow
