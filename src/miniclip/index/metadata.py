"""What an image says about itself: size; when and with what it was taken, perhaps where; keywords.

Pillow reads the tags; here they become values that can be compared. No pixel is decoded, and no
tag, however broken, is an error: what cannot be understood is not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import ExifTags, ImageFile, IptcImagePlugin

from miniclip.images import ImageSource, undecoded

_DATES = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.DateTimeDigitized, ExifTags.Base.DateTime)
_DATE_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y:%m:%d %H:%M", "%Y:%m:%d")
_TURNED = (5, 6, 7, 8)  # values of Orientation under which width and height change places
_KEYWORDS = (2, 25)  # IPTC-IIM 4.2: record 2, data set 25
_LONGEST = 200  # characters of a camera's name or a keyword


@dataclass(frozen=True)
class Metadata:
    """What is known of an image besides its pixels.

    width, height: in pixels, upright as it is shown, 0 when the file cannot be read. taken: local
    time of the camera as ISO 8601, such as "2024-05-01T13:45:00". latitude, longitude: in degrees,
    north and east positive (WGS 84). tags: the keywords that people gave it (IPTC).
    """

    width: int = 0
    height: int = 0
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    tags: tuple[str, ...] = ()


def read_metadata(source: ImageSource, *, places: bool = False) -> Metadata:
    """Read the header of an image; never raises for what a file holds.

    places: also say where it was taken. Without it nobody's home is told, whoever gets the answer.
    """
    width = height = 0
    tags: Mapping[int, Any] = {}
    exif: Mapping[int, Any] = {}
    gps: Mapping[int, Any] = {}
    iptc: Mapping[tuple[int, int], Any] = {}
    # A decoder fed with hostile bytes raises anything; each step keeps what came before it.
    with suppress(Exception), undecoded(source) as image:
        width, height = image.size
        tags = found = image.getexif()
        if tags.get(ExifTags.Base.Orientation) in _TURNED:
            width, height = height, width
        with suppress(Exception):
            exif = found.get_ifd(ExifTags.IFD.Exif)
        with suppress(Exception):
            gps = found.get_ifd(ExifTags.IFD.GPSInfo)
        with suppress(Exception):
            if isinstance(image, ImageFile.ImageFile):
                iptc = IptcImagePlugin.getiptcinfo(image) or {}
    latitude, longitude = _place(gps) if places else (None, None)
    return Metadata(
        width=width,
        height=height,
        taken=next(filter(None, (_date(exif.get(tag, tags.get(tag))) for tag in _DATES)), None),
        camera=_camera(_text(tags.get(ExifTags.Base.Make)), _text(tags.get(ExifTags.Base.Model))),
        latitude=latitude,
        longitude=longitude,
        tags=_keywords(iptc.get(_KEYWORDS)),
    )


def _text(value: object) -> str:
    """Return a tag as one line of printable text, "" for anything else."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="ignore")
    if not isinstance(value, str):
        return ""
    printable = "".join(sign if sign.isprintable() else " " for sign in value.partition("\0")[0])
    return " ".join(printable.split())[:_LONGEST]


def _keywords(value: object) -> tuple[str, ...]:
    """Keep each keyword once; one alone comes without a list around it."""
    words = map(_text, value if isinstance(value, list) else [value])
    return tuple(dict.fromkeys(filter(None, words)))


def _date(value: object) -> str | None:
    """EXIF 2.32, DateTime: "2024:05:01 13:45:00"; unknown parts are blank or zero."""
    text = _text(value)[:19]
    for form in _DATE_FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form).isoformat()
    return None


def _camera(make: str, model: str) -> str | None:
    """Name a camera once: "NIKON CORPORATION" and "NIKON D90" are a "NIKON D90"."""
    if make and model and make.split(maxsplit=1)[0].casefold() not in model.casefold():
        model = f"{make} {model}"
    return model or make or None


def _place(gps: Mapping[int, Any]) -> tuple[float, float] | tuple[None, None]:
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef))
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef))
    if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > 180:
        return None, None
    return latitude, longitude


def _degrees(parts: object, reference: object) -> float | None:
    """Degrees, minutes and seconds with N, S, E or W as one signed number."""
    sign = {"N": 1, "E": 1, "S": -1, "W": -1}.get(_text(reference).upper()[:1])
    if sign is None or not isinstance(parts, tuple | list):
        return None
    try:
        value = sum(float(part) / 60**power for power, part in enumerate(parts[:3]))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return round(sign * value, 7) if parts and math.isfinite(value) else None
