"""The picture inside a DICOM file, as a radiologist's screen shows it; needs miniclip[dicom].

Only pixels come out: names, dates and every other tag of the patient stay behind, but for
`read_tags`, which an audit asks. pydicom parses and decompresses; this file says how the stored
numbers become shades.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from miniclip.errors import ImageError, MissingExtraError
from miniclip.rgb import shade

HEAD_BYTES = 132  # what `is_dicom` wants to see
_SUFFIXES = (".dcm", ".dicom")


def is_dicom(head: bytes, suffix: str) -> bool:
    """Tell a DICOM file by its mark at byte 128, or by its suffix where the preamble is missing."""
    return head[128:132] == b"DICM" or suffix in _SUFFIXES


def read_dataset(stream: BinaryIO) -> Any:
    """Parse the file; pixels stay compressed. Returns a pydicom Dataset with Rows and Columns."""
    try:
        import pydicom  # noqa: PLC0415 -- an optional extra
    except ImportError:
        raise ImageError(str(MissingExtraError("a DICOM image", "dicom"))) from None
    dataset = pydicom.dcmread(stream, force=True)
    if not all(key in dataset for key in ("PixelData", "Rows", "Columns")):
        raise ImageError("a DICOM file without a picture in it; give one that holds pixel data")
    return dataset


def read_tags(path: Path) -> Any:
    """Return a pydicom Dataset of all but the pixels; ImageError when the file is no DICOM."""
    try:
        import pydicom  # noqa: PLC0415 -- an optional extra
    except ImportError:
        raise ImageError(str(MissingExtraError("a DICOM file", "dicom"))) from None
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    # Parsers fed with hostile bytes raise anything.
    except Exception as error:
        raise ImageError(f"{path}: no DICOM file, or a damaged one ({error})") from error


def picture(dataset: Any) -> Image.Image:
    """Return the first frame, mode L or RGB.

    Grey: the modality rescale (PS3.3 C.11.1), then the first window (C.11.2, all functions read as
    LINEAR), or without a window the smallest value black and the largest white; MONOCHROME1
    inverted.
    """
    from pydicom.pixels import apply_modality_lut, pixel_array  # noqa: PLC0415 -- optional extra

    stored = pixel_array(dataset, index=0)
    if stored.ndim == 3:  # pydicom has made RGB of the YBR models
        high = 2 ** int(dataset.BitsStored) - 1
        return Image.merge("RGB", [shade(stored[..., band], 0, high) for band in range(3)])
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        raise ImageError("a DICOM picture with a colour palette; export it as PNG or JPEG")
    values = apply_modality_lut(stored, dataset)
    low, high = _window(dataset) or (float(np.min(values)), float(np.max(values)))
    grey = shade(values, low, high)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = grey.point(lambda level: 255 - level)
    return grey


def _window(dataset: Any) -> tuple[float, float] | None:
    """Return the values shown black and white (PS3.3 C.11.2.1.2.1), or None without a window."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centre is None or width is None:
        return None
    centre, width = (float(np.atleast_1d(value)[0]) for value in (centre, width))
    return (centre - width / 2, centre - 1 + width / 2) if width > 1 else None
