"""Copies of a folder's images without what they tell of people; the originals are never touched.

Each copy is read again before it is written: it must tell nothing, and show the same picture. What
cannot be promised is not copied, and named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags

from miniclip.atomic import replacing
from miniclip.audit.identity import traces_of
from miniclip.audit.strip.chunks import strip_png, strip_webp
from miniclip.audit.strip.jpeg import strip_jpeg
from miniclip.audit.strip.scan import strip_dicom
from miniclip.audit.strip.tiff import strip_tiff
from miniclip.embed import Progress, Skipped
from miniclip.errors import ConfigError, ImageError, StoreError
from miniclip.images import ImageSource, decode, read_header, undecoded
from miniclip.quiet import quiet

_UPRIGHT = 1


@dataclass(frozen=True)
class Stripped:
    """What became of a folder: how many copies were written, and what was not copied and why."""

    folder: str
    written: int
    skipped: tuple[Skipped, ...] = ()


def strip_folder(
    root: Path,
    paths: Iterable[Path],
    out: Path,
    *,
    salt: bytes,
    progress: Progress | None = None,
) -> Stripped:
    """Write a copy of each image to the same place below `out`, whole or not at all.

    salt: see `strip_dicom`. ConfigError when one folder lies in the other, StoreError when a copy
    cannot be written. Names of files and folders stay.
    """
    here, there = root.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ConfigError(f"{out} and {root} lie in one another; choose a folder of its own")
    written, skipped = 0, list[Skipped]()
    for done, path in enumerate(paths, start=1):
        source = ImageSource.of(path)
        target = out / os.path.relpath(path, root)
        try:
            clean = stripped(source, salt=salt)
        except ImageError as error:
            skipped.append(Skipped(str(path), str(error).removeprefix(f"{source.name}: ")))
        else:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"cannot write to {out} ({error}); choose another place"
                ) from error
            with replacing(target) as stream:
                stream.write(clean)
            written += 1
        if progress:
            progress(done)
    return Stripped(str(out), written, tuple(skipped))


def stripped(source: ImageSource, *, salt: bytes) -> bytes:
    """Return the bytes of an image without what they tell of people, its pixels as stored.

    Kept: the picture, its colour profile and which way up it is. ImageError when the format is none
    of JPEG, PNG, WebP, TIFF, BMP and DICOM, the file is damaged, or the copy does not hold up.
    """
    header = read_header(source)
    data = _bytes(source)
    clean = _strip(data, header.file_format, _orientation(source), salt)
    copy = ImageSource(source.name, data=clean)
    left = traces_of(copy).traces
    if left:
        tags = ", ".join(sorted({trace.tag for trace in left})[:5])
        raise ImageError(f"{tags} could not be taken out; save the picture anew in another format")
    if not np.array_equal(np.asarray(decode(source)), np.asarray(decode(copy))):
        raise ImageError("its copy would not show the same picture; save it anew as PNG")
    return clean


def _strip(data: bytes, file_format: str, orientation: int, salt: bytes) -> bytes:
    try:
        with quiet():
            return _strip_as(file_format, data, orientation, salt)
    except ImageError:
        raise
    # A file may lie about its structure in any way that decoders forgive.
    except Exception as error:
        raise ImageError(
            f"its structure is damaged ({type(error).__name__}: {error}); save it anew"
        ) from error


def _strip_as(file_format: str, data: bytes, orientation: int, salt: bytes) -> bytes:
    if file_format in ("JPEG", "MPO"):
        return strip_jpeg(data, orientation)
    if file_format == "PNG":
        return strip_png(data, orientation)
    if file_format == "WEBP":
        return strip_webp(data, orientation)
    if file_format == "TIFF":
        return strip_tiff(data)
    if file_format == "DICOM":
        return strip_dicom(data, salt)
    if file_format in ("BMP", "DIB"):  # has no room for more than pixels
        return data
    raise ImageError(
        f"{file_format} cannot be stripped without saving its pixels anew; convert it to PNG"
    )


def _orientation(source: ImageSource) -> int:
    try:
        with undecoded(source) as image:
            value = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    except ImageError:  # a damaged EXIF block turns no picture
        return _UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else _UPRIGHT


def _bytes(source: ImageSource) -> bytes:
    if source.path is None:
        return source.data or b""
    try:
        return source.path.read_bytes()
    except OSError as error:
        raise ImageError(f"the file cannot be read ({error})") from error
