"""Radiographs made by pydicom, read back as the shades that a screen would show."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from miniclip.errors import ImageError
from miniclip.images import ImageSource, decode

pydicom = pytest.importorskip("pydicom")


def radiograph(pixels: NDArray[Any], **tags: object) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = (
        pydicom.uid.SecondaryCaptureImageStorage
    )
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName = "Doe^Jane"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shades(data: bytes) -> NDArray[np.uint8]:
    image = decode(data)
    assert image.info == {}
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


STEPS = np.array([[0, 1000, 2000], [3000, 4000, 500]], dtype=np.uint16)


def test_without_a_window_the_whole_range_shows() -> None:
    np.testing.assert_array_equal(shades(radiograph(STEPS)), np.rint(STEPS / 4000 * 255))


def test_the_window_is_in_rescaled_units() -> None:
    # CT: stored - 1024 = Hounsfield units; a window of 401 around 40 shows -160 to 240.
    stored = (np.array([[-1000, -160, 40], [240, 800, 140]]) + 1024).astype(np.uint16)
    data = radiograph(
        stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[401, 9]
    )
    expected = [[0, 0, 128], [255, 255, 191]]
    assert np.abs(shades(data).astype(int) - expected).max() <= 1


def test_monochrome1_is_inverted() -> None:
    plain, inverted = (
        shades(radiograph(STEPS, PhotometricInterpretation=f"MONOCHROME{kind}")) for kind in (2, 1)
    )
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_signed_pixels_and_many_frames() -> None:
    frames = np.stack([STEPS.astype(np.int16) - 2000, np.zeros_like(STEPS, dtype=np.int16)])
    data = radiograph(frames, NumberOfFrames=2)
    np.testing.assert_array_equal(shades(data), np.rint(STEPS / 4000 * 255))


def test_colour() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = radiograph(
        pixels,
        Rows=2,
        Columns=3,
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        PhotometricInterpretation="RGB",
    )
    np.testing.assert_array_equal(np.asarray(decode(data)), pixels)


def test_what_cannot_be_shown_is_named() -> None:
    for data, expected in (
        (radiograph(STEPS)[:200], "without a picture"),
        (radiograph(STEPS)[:-4], "damaged or cut off"),
        (radiograph(STEPS, PhotometricInterpretation="PALETTE COLOR"), "colour palette"),
        (radiograph(STEPS, Rows=60_000, Columns=60_000), "max_pixels"),
    ):
        with pytest.raises(ImageError, match=expected):
            decode(ImageSource("scan.dcm", data=data))
    with pytest.raises(ImageError, match="without a picture"):
        decode(ImageSource("letter.dcm", data=b"Dear colleague"))


def test_without_its_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = radiograph(STEPS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"miniclip\[dicom\]"):
        decode(data)
