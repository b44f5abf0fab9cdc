"""`preprocess` against a float64 reference from the definition, and against transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from miniclip.errors import ConfigError
from miniclip.images import decode
from miniclip.preprocess import ImageSpec, preprocess

SQUASH = ImageSpec(
    side=24,
    resize="squash",
    resize_side=24,
    interpolation="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
SHORTEST = replace(SQUASH, resize="shortest", resize_side=28)
KERNELS: dict[
    str, tuple[float, Callable[[float], float]]
] = {  # name -> (reach, weight at distance x)
    "bilinear": (1.0, lambda x: max(0.0, 1 - abs(x))),
    "bicubic": (
        2.0,  # Keys' kernel with a = -0.5
        lambda x: (
            (1.5 * abs(x) - 2.5) * x * x + 1
            if abs(x) < 1
            else ((-0.5 * abs(x) + 2.5) * abs(x) - 4) * abs(x) + 2
            if abs(x) < 2
            else 0.0
        ),
    ),
    "lanczos": (3.0, lambda x: float(np.sinc(x) * np.sinc(x / 3))),
}


def picture(width: int, height: int, low: int = 60, high: int = 195) -> Image.Image:
    """Draw blobs and a little noise: edges for the filter to ring at, as photos have.

    Away from 0 and 255 nothing is clipped on the way, so the order of the passes does not matter.
    """
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(low, high, (5, 7, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.NEAREST)).astype(int)
    return Image.fromarray(
        (pixels + rng.integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
    )


def resized_rows(rows: NDArray[Any], length: int, interpolation: str) -> NDArray[Any]:
    """Resample axis 0 by its definition: a weighted mean over the stretched kernel."""
    reach, kernel = KERNELS[interpolation]
    ratio = len(rows) / length
    stretch = max(1.0, ratio)  # antialiasing: the kernel covers all source pixels
    out = []
    for target in range(length):
        centre = (target + 0.5) * ratio
        near = [i for i in range(len(rows)) if abs(i + 0.5 - centre) < reach * stretch]
        weights = np.array([kernel((i + 0.5 - centre) / stretch) for i in near])
        out.append(np.tensordot(weights / weights.sum(), rows[near], 1))
    return np.asarray(np.array(out).clip(0, 255))


def reference(image: Image.Image, spec: ImageSpec) -> NDArray[Any]:
    width, height = image.size
    if spec.resize == "squash":
        width, height = spec.side, spec.side
    elif width < height:
        width, height = spec.resize_side, int(spec.resize_side * height / width)
    else:
        width, height = int(spec.resize_side * width / height), spec.resize_side
    pixels = np.asarray(image, dtype=float)
    pixels = resized_rows(pixels.swapaxes(0, 1), width, spec.interpolation).swapaxes(0, 1)
    pixels = resized_rows(pixels, height, spec.interpolation)
    top, left = (height - spec.side) // 2, (width - spec.side) // 2
    cut = pixels[top : top + spec.side, left : left + spec.side]
    return np.moveaxis((cut / 255 - spec.mean) / spec.std, 2, 0)


def levels(difference: NDArray[Any], spec: ImageSpec) -> NDArray[Any]:
    """Turn normalised units back into pixel levels of 0..255."""
    return np.asarray(np.abs(difference) * 255 * np.array(spec.std)[:, None, None])


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("spec", [SQUASH, SHORTEST], ids=lambda spec: spec.resize)
@pytest.mark.parametrize("size", [(70, 45), (45, 70), (24, 24), (12, 9), (31, 200)], ids=str)
def test_every_pixel_is_what_the_definition_says(
    size: tuple[int, int], spec: ImageSpec, interpolation: Any
) -> None:
    spec = replace(spec, interpolation=interpolation)
    image = picture(*size)
    pixels = preprocess(image, spec)
    assert pixels.shape == (3, 24, 24)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    # Pillow rounds to whole levels after each of its two passes.
    assert levels(pixels - reference(image, spec), spec).max() <= 1.5


@pytest.mark.parametrize("size", [(1, 99), (900, 13), (1000, 45), (31, 500), (700, 40)], ids=str)
def test_a_strip_keeps_the_grid_of_the_whole(size: tuple[int, int]) -> None:
    image = picture(*size)
    difference = levels(preprocess(image, SHORTEST) - reference(image, SHORTEST), SHORTEST)
    assert difference.max() <= 1.5
    assert difference.mean() <= 0.5  # of rounding alone


def test_fast_jpeg_scaling_leaves_no_trace_in_a_small_model() -> None:
    spec = replace(SHORTEST, side=32, resize_side=32)
    stream = BytesIO()
    picture(1920, 1280).save(stream, "JPEG", quality=90)
    fast = decode(stream.getvalue(), at_least=spec.enough())
    assert max(fast.size) < 1920
    difference = preprocess(fast, spec) - preprocess(decode(stream.getvalue()), spec)
    assert levels(difference, spec).mean() < 0.1  # 0.07; decoded at twice the side it is 0.16


def test_a_long_strip_costs_no_memory() -> None:
    # Carried out to the letter, this is a picture of 28 x 28,000,000.
    pixels = preprocess(Image.new("RGB", (1_000_000, 1), "red"), SHORTEST)
    np.testing.assert_allclose(pixels, preprocess(Image.new("RGB", (9, 9), "red"), SHORTEST))


@pytest.mark.train
@pytest.mark.parametrize("resize", ["squash", "shortest"])
@pytest.mark.parametrize("size", [(500, 333), (333, 500), (640, 480), (100, 80)], ids=str)
def test_transformers_makes_the_same_pixels(size: tuple[int, int], resize: str) -> None:
    clip = pytest.importorskip("transformers.models.clip")
    processor = getattr(clip, "CLIPImageProcessorPil", None) or clip.CLIPImageProcessor
    wanted: Any = {"shortest_edge": 224} if resize == "shortest" else {"height": 224, "width": 224}
    theirs = processor(size=wanted, do_center_crop=resize == "shortest")
    spec = ImageSpec(
        side=224,
        resize="shortest" if resize == "shortest" else "squash",
        resize_side=224,
        interpolation="bicubic",
        mean=tuple(theirs.image_mean),
        std=tuple(theirs.image_std),
    )
    image = picture(*size, low=0, high=256)
    expected = np.asarray(theirs(image, return_tensors="np")["pixel_values"])[0]
    off = levels(preprocess(image, spec) - expected, spec)
    assert off.max() <= 1.01
    assert (off > 0.01).mean() < 0.001, "more than a rare tie of rounding"


def test_only_rgb_is_taken() -> None:
    with pytest.raises(ConfigError, match="mode L"):
        preprocess(Image.new("L", (8, 8)), SQUASH)


# -- the spec


@pytest.mark.parametrize("spec", [SQUASH, SHORTEST, replace(SQUASH, resize="patches", patch=8)])
def test_a_spec_survives_json(spec: ImageSpec) -> None:
    assert ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 0}, "side is 0"),
        ({"side": 24.0}, "side is 24.0"),
        ({"side": True}, "side is True"),
        ({"resize": "stretch"}, "resize is 'stretch'; choose one of squash, shortest"),
        ({"resize": ["squash"]}, "resize is"),
        ({"resize_side": 20}, "smaller than side 24"),
        ({"patch": 8}, "patch is 8 but resize is 'squash'"),
        ({"resize": "patches"}, "patch is None but resize is 'patches'"),
        ({"resize": "patches", "patch": 7}, "patch is 7; give a whole number that divides"),
        ({"resize": "patches", "patch": 8, "resize_side": 30}, "resize_side is 30 but side is 24"),
        ({"resize": "shortest", "resize_side": 20}, "smaller than side 24"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'"),
        ({"mean": [0.5]}, "mean is"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"mean": ["a", 0, 0]}, "mean is"),
        ({"std": [0.2, 0.2, 0.0]}, "std is"),
        ({"std": [0.2, 0.2, float("nan")]}, "std is"),
        ({"colour": "sRGB"}, r"unknown key\(s\) colour"),
    ],
    ids=str,
)
def test_a_bad_spec_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec.from_dict(SQUASH.to_dict() | change)


def test_a_missing_key_is_named() -> None:
    values = SQUASH.to_dict()
    del values["std"]
    with pytest.raises(ConfigError, match=r"misses key\(s\) std"):
        ImageSpec.from_dict(values)


@pytest.mark.parametrize(
    ("crop", "width", "left"),
    [("floor", 29, 2), ("round", 29, 2), ("floor", 31, 3), ("round", 31, 4), ("round", 32, 4)],
)
def test_an_odd_rest_is_halved_as_the_original_library_does(
    crop: Literal["floor", "round"], width: int, left: int
) -> None:
    """Of a picture that needs no scaling, the cut is an exact piece."""
    image = picture(width, 28)

    pixels = preprocess(image, replace(SHORTEST, crop=crop))

    assert np.array_equal(pixels, preprocess(image.crop((left, 2, left + 24, 26)), SQUASH))


def test_a_squashed_picture_may_be_cut_too() -> None:
    image = picture(50, 31)
    square = preprocess(image, replace(SQUASH, side=30, resize_side=30))
    assert np.array_equal(preprocess(image, replace(SQUASH, resize_side=30)), square[:, 3:27, 3:27])


def test_a_spec_says_how_it_cuts_only_where_that_is_unusual() -> None:
    assert "crop" not in SHORTEST.to_dict()
    rounding = replace(SHORTEST, crop="round")
    assert ImageSpec.from_dict(json.loads(json.dumps(rounding.to_dict()))) == rounding
    with pytest.raises(ConfigError, match="crop is 'ceil'"):
        replace(SHORTEST, crop="ceil")  # type: ignore[arg-type]
