"""Safe decode of anything that claims to be an image; it resizes nothing and runs no model.

Every way in which a file can be bad ends in one ImageError that names it. Pillow, pillow-heif and
pydicom do the decoding; nothing here parses a format.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from PIL import Image, ImageOps, UnidentifiedImageError

from miniclip import dicom
from miniclip.errors import ConfigError, ImageError, MissingExtraError
from miniclip.quiet import quiet
from miniclip.rgb import to_rgb

MAX_PIXELS = 178_956_970  # where Pillow, too, refuses to go on: 0.5 GiB of RGB

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".dcm", ".dib", ".dicom", ".gif", ".heic", ".heif", ".hif", ".j2k", ".jfif",
    ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm",
    ".tif", ".tiff", ".webp",
))
# Not all that Pillow knows: EPS would start Ghostscript, others claim any bytes as theirs.
_FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "PCX",
)
_HEIC_BRANDS = (  # ISO/IEC 23008-12
    b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1",
)
# fmt: on


@dataclass(frozen=True)
class ImageSource:
    """An image that is not decoded yet: a file, or bytes with a name. Exactly one of the two.

    name: what people see in results and in lists of skipped images. offset, size: in bytes, when
    the image is only that part of the file (a member of a tar shard); size None means all of it.
    """

    name: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    offset: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.data is None):
            raise ConfigError(
                f"image source {self.name!r} has {'neither' if self.path is None else 'both'} "
                "of path and data; give exactly one"
            )

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return the source for a file, named by its path."""
        return cls(name=str(path), path=path)


def decode(
    source: ImageSource | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    at_least: int | None = None,
) -> Image.Image:
    """Decode one image to RGB, upright, first frame, with no metadata left on it.

    Transparency is laid on white; grey of more than 8 bits is scaled, not cut (`rgb.eight_bit`);
    DICOM is shown through its window. `max_pixels` is checked against the header, before any pixel
    is decoded. `at_least` lets a JPEG decode at 1/2, 1/4 or 1/8 of its size, much faster, with no
    side below that many pixels. Safe to call from many threads.

    Raises ImageError "NAME: reason; cure" for everything that cannot be decoded.
    """
    if isinstance(source, Path):
        source = ImageSource.of(source)
    elif isinstance(source, bytes):
        source = ImageSource(name="image bytes", data=source)
    with _translated(source), _open_stream(source) as stream:
        image = _decode(stream, _suffix(source), max_pixels, at_least)
    image.info = {}
    return image


class Header(NamedTuple):
    """What a file says about its image before any pixel is decoded.

    width, height: in pixels, as stored, not turned upright. mode, file_format: as Pillow names
    them, such as "L" and "JPEG". bytes: size of the file. jpeg_tables: 16 hex digits over the
    quantisation tables of a JPEG, which tell its encoder and quality; "" for other formats.
    """

    width: int
    height: int
    mode: str
    file_format: str
    bytes: int
    jpeg_tables: str


def read_header(source: ImageSource) -> Header:
    """Read the header of an image; errors as for `decode`, of what can be wrong so far."""
    with _translated(source), _open_stream(source) as stream:
        head = stream.read(dicom.HEAD_BYTES)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if dicom.is_dicom(head, _suffix(source)):
            dataset = dicom.read_dataset(stream)
            mode = str(dataset.PhotometricInterpretation)
            return Header(dataset.Columns, dataset.Rows, mode, "DICOM", size, "")
        with _open_heic(stream) if _is_heic(head) else _open(stream, head) as image:
            tables = getattr(image, "quantization", {})  # number -> 64 entries; JPEG only
            digest = hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()
            return Header(
                *image.size, image.mode, image.format or "", size, digest[:16] if tables else ""
            )


@contextmanager
def undecoded(source: ImageSource) -> Iterator[Image.Image]:
    """Give an image as far as its header, with its tags; errors as for `read_header`.

    A DICOM file gives a blank picture of its size: the tags of a patient stay behind.
    """
    with _translated(source), _open_stream(source) as stream:
        head = stream.read(dicom.HEAD_BYTES)
        stream.seek(0)
        if dicom.is_dicom(head, _suffix(source)):
            dataset = dicom.read_dataset(stream)
            yield Image.new("1", (dataset.Columns, dataset.Rows))
        else:
            with _open_heic(stream) if _is_heic(head) else _open(stream, head) as image:
                yield image


@contextmanager
def _translated(source: ImageSource) -> Iterator[None]:
    """Turn whatever a decoder raises into one ImageError that names the source."""
    try:
        with quiet():
            yield
    except ImageError as error:
        raise ImageError(f"{source.name}: {error}") from error.__cause__
    # Decoders fed with hostile bytes raise anything: KeyError, struct.error, MemoryError, ...
    except Exception as error:
        raise ImageError(
            f"{source.name}: the image cannot be decoded, it may be damaged or cut off "
            f"({type(error).__name__}: {error}); restore it from its source or remove it"
        ) from error


def _suffix(source: ImageSource) -> str:
    return Path(source.path or source.name).suffix.lower()


def _open_stream(source: ImageSource) -> BinaryIO:
    """Open the bytes of a source; ImageError when there are none to be had."""
    if source.path is None:
        stream: BinaryIO = BytesIO(source.data or b"")
    else:
        try:
            _check_regular(source.path)
            stream = source.path.open("rb")
            if source.offset or source.size is not None:
                with stream as whole:
                    whole.seek(source.offset)
                    stream = BytesIO(whole.read(source.size))
        except (OSError, ValueError) as error:
            raise ImageError(_why_not_opened(source.path, error)) from error
    if not stream.read(1):
        stream.close()
        raise ImageError("the file is empty (0 bytes); restore it from its source or remove it")
    stream.seek(0)
    return stream


def _check_regular(path: Path) -> None:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ImageError("this is a directory, not an image; give the images inside it")
    if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
        raise ImageError("this is a device, pipe or socket; give a regular file")


def _why_not_opened(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read the file; allow it, for example with chmod u+r"
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return (
                f"the link points to {path.readlink()}, which does not exist; "
                "mend or remove the link"
            )
        return "the file does not exist; check the path"
    return f"the file cannot be opened ({error}); check the path and the disk"


def _decode(stream: BinaryIO, suffix: str, max_pixels: int, at_least: int | None) -> Image.Image:
    head = stream.read(dicom.HEAD_BYTES)
    stream.seek(0)
    if dicom.is_dicom(head, suffix):
        dataset = dicom.read_dataset(stream)
        _check_pixels(dataset.Columns, dataset.Rows, max_pixels)
        return to_rgb(dicom.picture(dataset))
    image = _open_heic(stream) if _is_heic(head) else _open(stream, head)
    _check_pixels(*image.size, max_pixels)
    if at_least is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (at_least, at_least))
    image.load()
    with suppress(Exception):  # a damaged EXIF block does not make the picture unreadable
        ImageOps.exif_transpose(image, in_place=True)
    return to_rgb(image)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"{width} x {height} = {width * height:,} pixels are more than the limit of "
            f"{max_pixels:,}; make it smaller, or raise max_pixels if you trust the file"
        )


def _open(stream: BinaryIO, head: bytes) -> Image.Image:
    """Read the header with Pillow."""
    try:
        return Image.open(stream, formats=_formats())
    except UnidentifiedImageError as error:
        raise ImageError(
            f"not an image of a known format, or cut off near its start (it begins with "
            f"{head[:12]!r}); convert it to JPEG or PNG, or remove it"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"the picture is too large ({error}); make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS and max_pixels if you trust the file"
        ) from error


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Return those of our formats that this build of Pillow has."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS and b"avif" not in head[:64]


def _open_heic(stream: BinaryIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile  # noqa: PLC0415 -- an optional extra
    except ImportError:
        raise ImageError(str(MissingExtraError("a HEIC image", "heic"))) from None
    image: Image.Image = HeifImageFile(stream)
    return image
