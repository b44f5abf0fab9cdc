"""What EXIF tells of a photo, and that no EXIF, however broken, is an error."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from miniclip.images import ImageSource
from miniclip.index.metadata import Metadata, read_metadata
from miniclip.testing import picture

Base, GPS, IFD = ExifTags.Base, ExifTags.GPS, ExifTags.IFD


def photo(
    tags: dict[int, object] | None = None,
    exif: dict[int, object] | None = None,
    gps: dict[int, object] | None = None,
    kind: str = "JPEG",
) -> ImageSource:
    found = Image.Exif()
    found.update(tags or {})
    found.get_ifd(IFD.Exif).update(exif or {})
    found.get_ifd(IFD.GPSInfo).update(gps or {})
    if kind == "TIFF":  # Pillow writes these only if they are values there
        found.update({IFD.Exif: exif or {}, IFD.GPSInfo: gps or {}})
    stream = BytesIO()
    picture("red", (40, 30)).save(stream, kind, exif=found)
    return ImageSource("photo", data=stream.getvalue())


def degrees(*parts: float) -> tuple[IFDRational, ...]:
    return tuple(IFDRational(round(part * 100), 100) for part in parts)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_camera_says_when_where_and_with_what(kind: str) -> None:
    source = photo(
        {Base.Make: "NIKON CORPORATION", Base.Model: "NIKON D90"},
        {Base.DateTimeOriginal: "2024:05:01 13:45:10"},
        {
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: degrees(33, 51, 25.2),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: degrees(151, 12, 54),
        },
        kind,
    )

    found = read_metadata(source, places=True)

    assert found == Metadata(
        width=40,
        height=30,
        taken="2024-05-01T13:45:10",
        camera="NIKON D90",
        latitude=-33.857,
        longitude=151.215,
    )
    assert read_metadata(source) == replace(found, latitude=None, longitude=None)


def test_a_photo_without_exif_has_its_size_only(tmp_path: Path) -> None:
    picture("red", (12, 7)).save(tmp_path / "a.png")

    assert read_metadata(ImageSource.of(tmp_path / "a.png")) == Metadata(width=12, height=7)


def test_keywords_are_tags() -> None:
    words = ["Strand", "Käse", "Strand"]
    iptc = b"".join(
        b"\x1c\x02\x19" + len(data).to_bytes(2, "big") + data for data in map(str.encode, words)
    )
    block = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc + b"\0" * (len(iptc) % 2)
    data = photo().data or b""
    segment = b"Photoshop 3.0\0" + block
    marked = data[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment + data[2:]

    assert read_metadata(ImageSource("photo", data=marked)).tags == ("Strand", "Käse")


@pytest.mark.parametrize(("orientation", "size"), [(1, (40, 30)), (3, (40, 30)), (6, (30, 40))])
def test_the_size_is_that_of_the_upright_picture(orientation: int, size: tuple[int, int]) -> None:
    found = read_metadata(photo({Base.Orientation: orientation}))

    assert (found.width, found.height) == size


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("Apple\0\0", " iPhone\n15 ", "Apple iPhone 15"),
        ("", "X100", "X100"),
        ("Leica", "", "Leica"),
        (" ", "", None),
    ],
)
def test_a_camera_is_named_once(make: str, model: str, camera: str | None) -> None:
    assert read_metadata(photo({Base.Make: make, Base.Model: model})).camera == camera


@pytest.mark.parametrize(
    ("date", "taken"),
    [
        ("2024-05-01 13:45:10", "2024-05-01T13:45:10"),
        ("2024:05:01", "2024-05-01T00:00:00"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2024:13:41 99:00:00", None),
        ("yesterday", None),
    ],
)
def test_dates_are_understood_or_left_out(date: str, taken: str | None) -> None:
    assert read_metadata(photo(exif={Base.DateTimeOriginal: date})).taken == taken


def test_the_time_of_the_shot_counts_before_that_of_the_file() -> None:
    source = photo(
        {Base.DateTime: "2025:01:01 00:00:00"}, {Base.DateTimeDigitized: "2020:02:02 02:02:02"}
    )

    assert read_metadata(source).taken == "2020-02-02T02:02:02"
    assert read_metadata(photo({Base.DateTime: "2025:01:01 00:00:00"})).taken is not None


@pytest.mark.parametrize(
    "gps",
    [
        {GPS.GPSLatitude: degrees(1, 2, 3)},
        {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: degrees(95, 0, 0)},
        {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (IFDRational(0, 0),) * 3},
        {GPS.GPSLatitudeRef: "?", GPS.GPSLatitude: degrees(1, 2, 3)},
    ],
)
def test_half_a_place_is_no_place(gps: dict[int, object]) -> None:
    east: dict[int, object] = {GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: degrees(1, 0, 0)}

    found = read_metadata(photo(gps={**east, **gps}), places=True)

    assert (found.latitude, found.longitude) == (None, None)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_damage_is_an_error(data: st.DataObject) -> None:
    whole = photo(
        {Base.Make: "Canon", Base.Orientation: 6},
        {Base.DateTimeOriginal: "2024:05:01 13:45:10"},
        {GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: degrees(1, 2, 3)},
    ).data
    assert whole is not None
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 8))):
        if broken:
            broken[data.draw(st.integers(0, min(len(broken), 400) - 1))] = data.draw(
                st.integers(0, 255)
            )

    found = read_metadata(ImageSource("broken", data=bytes(broken)), places=True)

    assert isinstance(found, Metadata)
    assert found.latitude is None or -90 <= found.latitude <= 90
