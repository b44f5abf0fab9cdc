"""Copies tell nothing of people and show the same picture, to the byte where a format allows it."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from miniclip.audit.copies import strip_folder, stripped
from miniclip.audit.identity import traces_of
from miniclip.audit.provenance import audit_data
from miniclip.audit.strip.jpeg import strip_jpeg
from miniclip.errors import ConfigError, ImageError
from miniclip.images import ImageSource, decode
from tests.audit.planted import OWNER, PLANTED, photo, scan
from tests.probe.photos import make_photo

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(seed: int = 0) -> Image.Image:
    """Make a picture that is not square, so that a lost turn shows."""
    return make_photo("leaf", np.random.default_rng(seed)).crop((0, 0, 40, 48))


def clean(path: Path) -> bytes:
    return stripped(ImageSource.of(path), salt=b"salt")


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_photo_keeps_its_picture_its_colours_and_which_way_is_up(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = photo(tmp_path / f"a.{suffix}", picture(), orientation=orientation, icc=ICC)
    before = path.read_bytes()

    data = clean(path)

    assert [text for text in PLANTED if text.encode() in data] == []
    assert traces_of(ImageSource("copy", data=data)).traces == ()
    assert np.array_equal(np.asarray(decode(path)), np.asarray(decode(data)))
    assert opened(data).info["icc_profile"] == ICC
    assert opened(data).getexif().get(0x0112, 1) == orientation
    assert path.read_bytes() == before


def test_the_coefficients_of_a_jpeg_are_the_same_bytes(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", picture())
    scan_begins = b"\xff\xda"

    data, old = clean(path), path.read_bytes()

    assert data.split(scan_begins, 1)[1] == old.split(scan_begins, 1)[1]
    assert data.count(b"\xff\xdb") == old.count(b"\xff\xdb")  # quantisation tables


@pytest.mark.parametrize("kind", ["progressive", "restarts", "cmyk", "behind"])
def test_unusual_jpegs_survive(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    image = picture().convert("CMYK") if kind == "cmyk" else picture()
    image.save(
        path,
        progressive=kind == "progressive",
        restart_marker_blocks=1 if kind == "restarts" else 0,
        comment=OWNER,
    )
    if kind == "behind":  # a film behind the photo, as phones write it
        path.write_bytes(path.read_bytes() + OWNER.encode())

    data = clean(path)

    assert OWNER.encode() not in data
    assert np.array_equal(np.asarray(decode(path)), np.asarray(decode(data)))


def test_a_preview_of_what_was_cut_off_goes_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture().save(path)
    picture(1).save(tmp_path / "b.jpg")
    small = (tmp_path / "b.jpg").read_bytes()
    jfxx = b"JFXX\0\x10" + small
    head, rest = path.read_bytes()[:2], path.read_bytes()[2:]
    segment = b"\xff\xe0" + (len(jfxx) + 2).to_bytes(2, "big") + jfxx
    first = 2 + int.from_bytes(rest[2:4], "big")
    path.write_bytes(head + rest[:first] + segment + rest[first:])

    assert b"JFXX" not in clean(path)


def test_a_scan_keeps_geometry_and_machine_and_nothing_of_the_patient(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    path = scan(tmp_path / "a.dcm", np.asarray(picture().convert("L")))
    with pytest.raises(ImageError, match="burnt into its pixels"):
        clean(path)
    dataset = pydicom.dcmread(path)
    dataset.BurnedInAnnotation = "NO"
    dataset.SliceThickness = "2.5"
    dataset.save_as(path)

    data = clean(path)

    assert [text for text in PLANTED if text.encode() in data] == []
    found = pydicom.dcmread(BytesIO(data))
    assert (found.Modality, found.Manufacturer, found.SliceThickness) == ("MR", "Siemens", 2.5)
    assert (str(found.PatientName), found.PatientIdentityRemoved) == ("", "YES")
    assert found.PixelData == dataset.PixelData
    assert found.SOPInstanceUID != dataset.SOPInstanceUID
    assert found.StudyInstanceUID == pydicom.dcmread(BytesIO(clean(path))).StudyInstanceUID
    other = stripped(ImageSource.of(path), salt=b"another")
    assert found.StudyInstanceUID != pydicom.dcmread(BytesIO(other)).StudyInstanceUID


def test_what_cannot_be_promised_is_not_copied(tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    photo(folder / "deep" / "a.jpg", picture())
    picture().save(folder / "b.gif")
    (folder / "c.jpg").write_bytes((folder / "deep" / "a.jpg").read_bytes()[:300])
    picture().save(folder / "d.bmp")
    paths = sorted(path for path in folder.rglob("*.*"))

    result = strip_folder(folder, paths, out, salt=b"x")

    assert sorted(path.name for path in out.rglob("*.*")) == ["a.jpg", "d.bmp"]
    reasons = {Path(one.name).name: one.reason for one in result.skipped}
    assert reasons.keys() == {"b.gif", "c.jpg"}
    assert reasons["b.gif"].startswith("GIF cannot be stripped without saving its pixels anew")
    for place in (folder, folder / "below", tmp_path):
        with pytest.raises(ConfigError, match="lie in one another"):
            strip_folder(folder, paths, place, salt=b"x")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_jpeg_is_refused_or_right(data: st.DataObject) -> None:
    stream = BytesIO()
    picture().save(stream, "JPEG", comment=OWNER)
    broken = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(2, len(broken) - 1))
        broken[place] = data.draw(st.integers(0, 255))
    try:
        copy = strip_jpeg(bytes(broken), 1)
    except ImageError:
        return
    assert copy[:2] == b"\xff\xd8"
    assert copy[-2:] == b"\xff\xd9"
    assert len(copy) <= len(broken) + 2


def test_a_folder_is_counted_and_its_repeats_and_licences_told(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", picture())
    shutil.copy(tmp_path / "a.jpg", tmp_path / "b.jpg")
    picture().resize((80, 96)).save(tmp_path / "c.png")
    make_photo("sea", np.random.default_rng(9)).save(tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes(b"no picture")

    found = audit_data(sorted(tmp_path.iterdir()), root=tmp_path)

    assert (found.images, found.exact, found.near) == (4, 1, 1)
    assert found.repeats == (("a.jpg", "b.jpg", "c.png"),)
    assert found.formats == {"JPEG": 2, "PNG": 2}
    assert found.licences == {"CC BY 4.0": 2, "says nothing": 2}
    assert found.cameras == {"Contax T2": 2, "says nothing": 2}
    assert found.years == {"2024": 2, "says nothing": 2}
    assert found.traces["place"] == found.traces["person"] == 2
    assert [one.name for one in found.traced] == ["a.jpg", "b.jpg"]
    assert [one.name for one in found.skipped] == ["e.png"]
    assert OWNER not in str(found.to_dict()) + str(found)
