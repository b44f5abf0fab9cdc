"""Every way in which a file can be strange or bad, one story each."""

from __future__ import annotations

import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from miniclip.errors import ConfigError, ImageError
from miniclip.images import IMAGE_SUFFIXES, Header, ImageSource, decode, read_header

ORIENTATION = 0x0112
# What a camera held in each way would store, so that the tag brings back the upright picture.
STORED_AS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, -1),
}


def noise(height: int = 6, width: int = 9, channels: int = 3) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels if channels > 1 else pixels[..., 0]


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    image = decode(data)
    assert type(image) is Image.Image
    assert image.mode == "RGB"
    return np.asarray(image)


def reason(source: ImageSource | Path | bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source)
    return str(caught.value)


# -- strange but good


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_a_photo_comes_out_upright(orientation: int, kind: str) -> None:
    upright = noise()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](upright)))
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(pixels_of(saved(stored, kind, exif=exif, **options)), upright)


def test_a_damaged_exif_block_does_not_lose_the_photo() -> None:
    data = saved(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish")
    assert pixels_of(data).shape == (6, 9, 3)


def test_a_palette_keeps_its_colours() -> None:
    image = Image.fromarray(noise()).quantize(16)
    np.testing.assert_array_equal(pixels_of(saved(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    rgba = noise(channels=4)
    image = Image.fromarray(rgba).convert(mode)
    colour = np.asarray(image.convert("RGBA"))[..., :3].astype(float)
    alpha = rgba[..., 3:] / 255
    expected = colour * alpha + 255 * (1 - alpha)
    assert np.abs(pixels_of(saved(image)) - expected).max() <= 1


def test_the_transparent_colour_of_a_palette_is_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert (pixels_of(saved(image, "GIF", transparency=1)) == 255).all()
    assert (pixels_of(saved(image, "PNG", transparency=bytes([255, 0]))) == 255).all()


def test_cmyk_becomes_the_colour_that_was_printed() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        assert np.abs(pixels_of(saved(red, kind)) - np.array([255, 0, 0.0])).max() <= 3


YCBCR = pytest.param(
    "YCbCr",
    marks=pytest.mark.skipif(PIL.__version__ < "13", reason="it cannot read what it writes"),
)


@pytest.mark.parametrize("mode", ["1", "L", YCBCR])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.fromarray(noise()).convert(mode)
    kind = "TIFF"
    np.testing.assert_array_equal(pixels_of(saved(image, kind)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_grey_of_16_bits_is_scaled_not_cut(byte_order: str) -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    kind = "TIFF"
    data = saved(Image.fromarray(values.astype(f"{byte_order}u2")), kind)
    shades = pixels_of(data)
    np.testing.assert_array_equal(shades[..., 0], np.rint(values / 257))
    assert (shades == shades[..., :1]).all()


def test_16_bit_png_reads_like_16_bit_tiff() -> None:
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = Image.fromarray(values)
    np.testing.assert_array_equal(pixels_of(saved(image, "PNG")), pixels_of(saved(image, "TIFF")))


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        (np.array([[0, 4095]], dtype=np.uint16), 0, 4095),  # a 12-bit camera
        (np.array([[0, 255]], dtype=np.uint16), 0, 255),
        (np.array([[0, 40000]], dtype=np.int32), 0, 65535),
        (np.array([[-1024, 3071]], dtype=np.int32), -1024, 3071),
        (np.array([[0, 5_000_000]], dtype=np.int32), 0, 5_000_000),
        (np.array([[0.0, 0.5, np.nan]], dtype=np.float32), 0, 1),
        (np.array([[0.0, 200.0]], dtype=np.float32), 0, 255),
        (np.array([[-3.0, np.inf, 7.0]], dtype=np.float32), -3, 7),
        (np.array([[9, 9]], dtype=np.int32), 0, 255),
    ],
)
def test_deep_grey_finds_its_white(values: NDArray[Any], black: float, white: float) -> None:
    finite = np.nan_to_num(values.astype(float), nan=black, posinf=white)
    expected = np.rint(255 * (finite - black) / (white - black))
    shades = pixels_of(saved(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(shades[..., 0], expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert (np.abs(pixels_of(data) - np.array([255.0, 0, 0])) <= 2).all()


def test_no_metadata_survives() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe, born 1970"
    data = saved(Image.fromarray(noise()), "JPEG", exif=exif, comment=b"Jane", icc_profile=b"Jane")
    assert b"Jane" in data
    image = decode(data)
    assert image.info == {}
    assert not image.getexif()
    assert b"Jane" not in saved(image, "JPEG")


def test_a_large_jpeg_decodes_smaller_but_not_below_at_least() -> None:
    data = saved(Image.new("RGB", (1600, 1200), "teal"), "JPEG")
    assert decode(data, at_least=300).size == (400, 300)
    assert decode(data, at_least=301).size == (800, 600)
    assert decode(data).size == (1600, 1200)


def test_a_byte_range_of_a_file_is_an_image(tmp_path: Path) -> None:
    member = saved(Image.fromarray(noise()))
    shard = tmp_path / "shard.tar"
    shard.write_bytes(b"x" * 512 + member + b"y" * 100)
    source = ImageSource("a.png", path=shard, offset=512, size=len(member))
    np.testing.assert_array_equal(np.asarray(decode(source)), noise())


def test_a_header_says_what_is_stored() -> None:
    """Not what is shown: this photo is to be turned, and its grey becomes RGB when decoded."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = saved(Image.fromarray(noise(channels=1)), "JPEG", exif=exif, quality=80)
    assert decode(data).size == (6, 9)
    header = read_header(ImageSource("a.jpg", data=data))
    assert header[:5] == (9, 6, "L", "JPEG", len(data))
    assert len(header.jpeg_tables) == 16


def test_the_tables_of_a_jpeg_tell_its_quality_and_nothing_of_its_picture() -> None:
    def tables(image: Image.Image, quality: int) -> str:
        data = saved(image, "JPEG", quality=quality)
        return read_header(ImageSource("a.jpg", data=data)).jpeg_tables

    noisy, plain = Image.fromarray(noise()), Image.new("RGB", (50, 40))
    assert tables(noisy, 80) == tables(plain, 80) != tables(noisy, 81)


def test_the_header_of_a_part_of_a_file_is_that_of_the_image(tmp_path: Path) -> None:
    data = saved(Image.fromarray(noise()))
    (tmp_path / "shard.tar").write_bytes(b"x" * 30 + data + b"y" * 9)
    member = ImageSource("a.png", path=tmp_path / "shard.tar", offset=30, size=len(data))
    assert read_header(member) == Header(9, 6, "RGB", "PNG", len(data), "")


def test_a_header_of_no_image_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.jpg: not an image of a known format"):
        read_header(ImageSource("a.jpg", data=b"text"))
    with pytest.raises(ImageError, match="does not exist"):
        read_header(ImageSource.of(tmp_path / "gone.jpg"))


def test_a_name_in_another_script_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "собака 狗 🐕.png"
    path.write_bytes(saved(Image.fromarray(noise())))
    np.testing.assert_array_equal(np.asarray(decode(path)), noise())


# -- bad


def bare_png(width: int, height: int) -> bytes:
    """Make a PNG that claims a size and holds nothing."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", size), (b"IDAT", b"x")):
        data += struct.pack(">I", len(content)) + kind + content
        data += struct.pack(">I", zlib.crc32(kind + content))
    return data


def test_a_bomb_is_refused_by_its_header() -> None:
    # Nothing follows the header: a decoder that went on would complain of that instead.
    for width, height in ((13_400, 13_400), (60_000, 60_000)):
        assert "max_pixels" in reason(bare_png(width, height))


def test_the_limit_is_the_callers() -> None:
    data = saved(Image.fromarray(noise(6, 9)))
    assert decode(data, max_pixels=54).size == (9, 6)
    with pytest.raises(ImageError, match="9 x 6 = 54 pixels are more than the limit of 53"):
        decode(data, max_pixels=53)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_says_so(kind: str) -> None:
    data = saved(Image.fromarray(noise(64, 64)), kind)
    assert "damaged or cut off" in reason(data[: len(data) // 2])


def test_text_renamed_to_jpg(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("Dear diary")
    message = reason(path)
    assert message.startswith(f"{path}: not an image of a known format")
    assert "Dear diary" in message
    assert "convert it" in message


def test_a_postscript_program_is_never_run() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    assert "not an image of a known format" in reason(data)


def test_places_that_hold_no_image(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    dangling = tmp_path / "link.jpg"
    dangling.symlink_to(tmp_path / "gone.jpg")
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    for path, expected in (
        (empty, "empty (0 bytes)"),
        (dangling, "the link points to"),
        (pipe, "pipe or socket"),
        (tmp_path, "a directory"),
        (tmp_path / "missing.jpg", "does not exist"),
        (empty / "below.jpg", "cannot be opened"),
        (Path("nul\0.jpg"), "cannot be opened"),
    ):
        assert expected in reason(path)
        assert reason(path).startswith(f"{path}: ")
    assert "empty (0 bytes)" in reason(b"")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private.png"
    path.write_bytes(saved(Image.fromarray(noise())))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(self: Path, *_args: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refuse)
    assert "chmod u+r" in reason(path)


def test_a_source_is_a_file_or_bytes_and_not_both() -> None:
    for path, data in ((None, None), (Path("a.png"), b"x")):
        with pytest.raises(ConfigError, match="exactly one"):
            ImageSource("a.png", path=path, data=data)


PHOTOS = [saved(Image.fromarray(noise(16, 16)), kind) for kind in ("JPEG", "PNG", "GIF", "TIFF")]


@settings(max_examples=150, deadline=None)
@given(
    data=st.sampled_from(PHOTOS),
    damage=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 2000),
)
def test_damaged_bytes_give_a_picture_or_an_image_error(
    data: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    hurt = bytearray(data)
    for place, value in damage:
        hurt[place % len(hurt)] = value
    try:
        image = decode(bytes(hurt[: len(hurt) - cut % len(hurt)]), max_pixels=10_000)
    except ImageError:
        return
    assert image.mode == "RGB"


# -- threads and warnings


def test_no_warning_leaks_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # 54 pixels: Pillow warns
    data = saved(Image.fromarray(noise()))
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(BytesIO(data))
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(4) as pool:
            pictures = list(pool.map(decode, [data] * 32))
        assert leaked == []
        warnings.warn("the caller's own", UserWarning, stacklevel=1)
        assert len(leaked) == 1
    assert len({picture.tobytes() for picture in pictures}) == 1


def test_the_suffixes_are_lower_case_and_dotted() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".heic", ".dcm"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in IMAGE_SUFFIXES)


# -- extras

HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "pip install 'miniclip[heic]'" in reason(HEIC_HEAD)


def test_heic_decodes_with_its_extra() -> None:
    heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 48), (200, 30, 30))
    stream = BytesIO()
    heif.from_pillow(image).save(stream, quality=90)
    assert np.abs(pixels_of(stream.getvalue()) - np.array([200.0, 30, 30])).max() < 8
    assert "HEIF" not in Image.OPEN, "the caller's own Pillow stays as it was"
    assert "damaged or cut off" in reason(HEIC_HEAD)
