"""The corruptions: as strong as those of the reference, pure, and of any size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from math import hypot, sqrt
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from miniclip.corruptions import EVERYDAY, SEVERITIES, STANDARD, corrupt, named_corruptions
from miniclip.corruptions.weather import plasma
from miniclip.errors import ConfigError
from tests.corruptions.statistics_of import Pixels, photos, statistics_of, structural_similarity

REFERENCE = json.loads(Path(__file__).with_name("reference.json").read_text("utf-8"))
BY_CHANCE = {"frost": 16, "fog": 8, "motion_blur": 3, "snow": 3}  # seeds; the others vary little
DETERMINED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")
SURE = 4.0  # standard deviations
# What other versions of Pillow and SciPy may move, in the unit of each statistic.
FINE = {"slope": 0.003, "detail": 0.003, "ssim": 0.004, "power": 0.01, "rough": 0.01, "level": 0.15}

Statistics = Mapping[str, float]


@cache
def ours(name: str, severity: int) -> tuple[Statistics, int]:
    """Mean statistics of all photos and seeds, and how many seeds that was."""
    seeds = 1 if name in DETERMINED else BY_CHANCE.get(name, 2)
    measured = [
        statistics_of(corrupt(photo, name, severity, np.random.default_rng([seed, number])), photo)
        for seed in range(seeds)
        for number, photo in enumerate(photos())
    ]
    return {key: float(np.mean([one[key] for one in measured])) for key in measured[0]}, seeds


def differing(name: str, severity: int, reference: int) -> list[str]:
    """Which of our statistics are further from the reference at a severity than chance allows."""
    own, seeds = ours(name, severity)
    seeds_then = REFERENCE["about"]["seeds"][name]
    found = []
    for key, (mean, spread) in REFERENCE["statistics"][name][str(reference)].items():
        fine = FINE.get(key.split()[0], FINE["level"])
        chance = spread * sqrt(1 / seeds + 1 / seeds_then)
        if abs(own[key] - mean) > hypot(SURE * chance, fine):
            found.append(f"{key}: {own[key]:.4f}, reference {mean:.4f} ± {chance:.4f}")
    return found


@pytest.mark.parametrize("name", STANDARD)
def test_statistics_are_those_of_the_reference_at_every_severity(name: str) -> None:
    pytest.importorskip("skimage")
    for severity in SEVERITIES:
        assert differing(name, severity, severity) == [], severity


@pytest.mark.parametrize("name", STANDARD)
def test_a_severity_that_is_one_off_would_be_seen(name: str) -> None:
    pytest.importorskip("skimage")
    for severity in SEVERITIES:
        for other in {severity - 1, severity + 1} & set(SEVERITIES):
            if name == "frost" and 4 in (severity, other):
                continue  # its 3, 4 and 5 differ by less than its windows; see the exact test below
            assert differing(name, severity, other), (severity, other)


def test_frost_keeps_and_adds_what_the_paper_says() -> None:
    """Exactly, for the difference of two pictures behind one window is the picture's share."""
    black, grey = (np.full((224, 224, 3), level, dtype=np.uint8) for level in (0, 60))
    expected = {1: (1.0, 0.4), 2: (0.8, 0.6), 3: (0.7, 0.7), 4: (0.65, 0.7), 5: (0.6, 0.75)}
    mild = corrupt(black, "frost", 1, np.random.default_rng(0)).mean()
    for severity, (kept, ice) in expected.items():
        one, other = (
            corrupt(each, "frost", severity, np.random.default_rng(0)).astype(float)
            for each in (black, grey)
        )
        assert (other - one).mean() == pytest.approx(60 * kept, abs=0.2)
        assert (one.mean() + 0.5) / (mild + 0.5) == pytest.approx(ice / 0.4, abs=0.01)


def test_the_reference_has_all_fifteen() -> None:
    assert tuple(REFERENCE["statistics"]) == STANDARD
    assert len(STANDARD) == 15


# What holds for every corruption


def gradient(height: int, width: int) -> Pixels:
    """Return a colourful picture."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.sin(rows / 5) * np.cos(columns / 7)
    picture = np.stack([rows * 200 / height, columns * 200 / width, 100 + 80 * waves], axis=2)
    return picture.astype(np.uint8)


@pytest.mark.parametrize("name", [*STANDARD, *EVERYDAY])
def test_equal_seeds_give_equal_pictures_and_the_input_stays(name: str) -> None:
    picture = gradient(48, 64)
    before = picture.copy()
    one, same, other = (corrupt(picture, name, 3, np.random.default_rng(n)) for n in (1, 1, 2))
    assert np.array_equal(one, same)
    assert np.array_equal(picture, before)
    assert not np.array_equal(one, picture)
    chance_decides = name not in (*DETERMINED, "jpeg_quality", "resize")
    assert (not np.array_equal(one, other)) == chance_decides


@pytest.mark.parametrize("name", [*STANDARD, *EVERYDAY])
@pytest.mark.parametrize("size", [(16, 16), (37, 120), (260, 90)])
def test_any_size_keeps_its_size(name: str, size: tuple[int, int]) -> None:
    for severity in (1, 5):
        out = corrupt(gradient(*size), name, severity, np.random.default_rng(0))
        assert out.shape == (*size, 3)
        assert out.dtype == np.uint8


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "elastic_transform"])
def test_lengths_grow_with_the_picture(name: str) -> None:
    """A photo corrupted and then halved looks as the halved photo corrupted."""

    def halved(picture: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(picture).reduce(2))

    large = next(photos())
    small = halved(large)
    first, second = (corrupt(each, name, 4, np.random.default_rng(0)) for each in (large, small))
    grey = small.mean(axis=2)
    kept = [structural_similarity(one.mean(axis=2), grey) for one in (halved(first), second)]
    assert kept[1] < 0.9
    whole_pixels = name == "glass_blur"  # its shifts can only be rounded
    assert kept[0] == pytest.approx(kept[1], abs=0.12 if whole_pixels else 0.06)


@pytest.mark.parametrize("name", EVERYDAY)
def test_everyday_corruptions_get_worse(name: str) -> None:
    photo = next(photos())
    kept = [
        np.mean(
            [
                np.abs(corrupt(photo, name, s, np.random.default_rng(n)).astype(int) - photo).mean()
                for n in range(3)
            ]
        )
        for s in SEVERITIES
    ]
    assert kept == sorted(kept)
    assert kept[0] > 0.5


def test_camera_noise_grows_with_the_light_as_poisson_and_gauss_say() -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    out = corrupt(grey, "camera_noise", 2, np.random.default_rng(0))
    light = (out / 255) ** 2.2
    mean = (128 / 255) ** 2.2
    assert light.std() == pytest.approx(sqrt(mean / 150 + 0.008**2), rel=0.03)
    assert light.mean() == pytest.approx(mean, rel=0.02)


def test_a_rotated_picture_shows_no_black_corner() -> None:
    white = np.full((60, 100, 3), 200, dtype=np.uint8)
    for severity in SEVERITIES:
        out = corrupt(white, "rotation", severity, np.random.default_rng(severity))
        assert out.min() == out.max() == 200


def test_a_cloud_fills_its_range_and_wraps_around() -> None:
    cloud = plasma(64, 2.0, np.random.default_rng(0))
    assert (cloud.min(), cloud.max()) == (0, 1)
    steps = np.abs(np.diff(cloud, axis=1)).mean()
    assert np.abs(cloud[:, 0] - cloud[:, -1]).mean() < 3 * steps


# Names


def test_names_and_families_are_read_in_our_order() -> None:
    assert named_corruptions("fog, noise") == (
        "gaussian_noise", "shot_noise", "impulse_noise", "fog",
    )  # fmt: skip
    assert named_corruptions("standard") == STANDARD
    assert named_corruptions("all") == (*STANDARD, *EVERYDAY)


@pytest.mark.parametrize(
    ("picture", "name", "severity", "message"),
    [
        (gradient(32, 32), "rain", 1, "no corruption is called 'rain'"),
        (gradient(32, 32), "fog", 6, "severity is 6"),
        (gradient(32, 32).astype(np.float32), "fog", 1, "of float32"),
        (gradient(8, 32), "fog", 1, "32 x 8 is too small"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(
    picture: Pixels, name: str, severity: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        corrupt(picture, name, severity, np.random.default_rng(0))


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="no corruption is named"):
        named_corruptions(" , ")
