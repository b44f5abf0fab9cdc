"""Facts tell sources apart, and a perceptual hash sees through what copying does to a picture."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from miniclip.errors import ImageError
from miniclip.images import ImageSource
from miniclip.probe.facts import MIRROR_MASKS, ImageFacts, perceptual_hash, read_facts


def scene(seed: int, side: int = 160) -> Image.Image:
    """Draw smooth random blobs, as different from each other as photos are."""
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: int) -> ImageSource:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return ImageSource(f"a.{kind.lower()}", data=stream.getvalue())


def distance(one: Image.Image, other: Image.Image) -> int:
    return (perceptual_hash(one) ^ perceptual_hash(other)).bit_count()


def test_facts_of_a_file() -> None:
    image = Image.new("RGB", (128, 64), (255, 0, 0))
    image.paste((0, 0, 255), (24, 12, 104, 52))  # leaves the edge and the corners red
    source = saved(image, "PNG")
    facts = read_facts(source)
    assert (facts.width, facts.height, facts.mode, facts.file_format) == (128, 64, "RGB", "PNG")
    assert facts.bytes == len(source.data or b"")
    assert facts.jpeg_tables == ""
    assert facts.border == (1, 0, 0, 0, 0, 0) * 2
    assert ImageFacts.from_json(facts.to_json()) == facts


def test_jpeg_tables_tell_the_quality() -> None:
    tables = [
        read_facts(saved(scene(seed), "JPEG", quality=quality)).jpeg_tables
        for seed, quality in ((0, 90), (1, 90), (0, 60))
    ]
    assert tables[0] == tables[1] != tables[2]
    assert len(tables[0]) == 16


def test_facts_do_not_depend_on_the_scale_of_decoding() -> None:
    small, large = scene(3, 160), scene(3, 1600)
    one, other = (read_facts(saved(image, "JPEG", quality=95)) for image in (small, large))
    assert (one.perceptual_hash ^ other.perceptual_hash).bit_count() <= 4
    np.testing.assert_allclose(one.border, other.border, atol=0.02)


@pytest.mark.parametrize(
    "copied",
    [
        lambda image: image.resize((60, 45)),
        lambda image: image.resize((500, 300)),
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
        lambda image: image.convert("L"),
        lambda image: image.crop((2, 2, image.width - 2, image.height - 2)),
    ],
    ids=["small", "stretched", "dark", "grey", "cropped"],
)
def test_a_copy_keeps_nearly_all_bits(copied) -> None:  # type: ignore[no-untyped-def]
    assert max(distance(scene(seed), copied(scene(seed))) for seed in range(20)) <= 10


def test_different_pictures_differ_in_half_the_bits() -> None:
    distances = [distance(scene(seed), scene(seed + 1)) for seed in range(40)]
    assert min(distances) > 12
    assert 28 < np.mean(distances) < 36


TURNS = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
)


@pytest.mark.parametrize(("mask", "turned"), list(zip(MIRROR_MASKS, TURNS, strict=True)), ids=str)
def test_the_hash_of_a_mirrored_picture_follows_from_its_own(
    mask: int, turned: Image.Transpose
) -> None:
    wrong = [
        (perceptual_hash(image) ^ mask ^ perceptual_hash(image.transpose(turned))).bit_count()
        for image in map(scene, range(20))
    ]
    assert np.mean(wrong) < 6  # as many as the median is away from 0
    assert max(wrong) <= 14


def test_the_hash_is_a_cosine_transform_against_its_median() -> None:
    """The definition, as a double loop over frequencies and pixels."""
    image = scene(5).convert("L").resize((32, 32), Image.Resampling.BOX)
    pixels = np.asarray(image, dtype=np.float64)
    at = (2 * np.arange(32) + 1) * np.pi / 64
    low = np.array(
        [[np.cos(u * at) @ pixels @ np.cos(v * at) for v in range(1, 9)] for u in range(1, 9)]
    )
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert perceptual_hash(image) == int(bits, 2)


def test_a_picture_of_one_colour_has_no_bits() -> None:
    assert {perceptual_hash(Image.new("RGB", (64, 64), (v, v, v))) for v in (0, 77, 255)} == {0}


def test_what_cannot_be_decoded_is_an_image_error() -> None:
    with pytest.raises(ImageError, match=r"a\.jpg"):
        read_facts(ImageSource("a.jpg", data=b"no image"))
