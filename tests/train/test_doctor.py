"""The doctor: silent on a healthy run, and right about every planted fault."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from miniclip.arrays import FloatArray, unit_rows
from miniclip.train.doctor import (
    Finding,
    RunNumbers,
    chance_loss,
    diagnose,
    effective_rank,
)

STEPS = 400
N, D = 64, 32


def pairs(noise: float = 0.7) -> tuple[FloatArray, FloatArray]:
    """Two texts per image, each near its image, and the small gap that towers have."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((N, D))
    text = np.repeat(image, 2, axis=0) + noise * rng.standard_normal((2 * N, D))
    return unit_rows(image + 0.3), unit_rows(text - 0.3)


def healthy() -> RunNumbers:
    rng = np.random.default_rng(1)
    falling = 1 + (math.log(256) - 1) * np.exp(-np.arange(STEPS) / 60)
    image, text = pairs()
    return RunNumbers(
        batch_size=256,
        losses=(falling + 0.1 * rng.standard_normal(STEPS)).tolist(),
        logit_scales=np.linspace(14.3, 40, STEPS).tolist(),
        gradient_norms={
            "the image head": rng.lognormal(0, 0.8, STEPS).tolist(),
            "the text tower": rng.lognormal(0, 0.8, STEPS).tolist(),
        },
        epoch_losses=[2.5, 1.8, 1.4, 1.2, 1.1],
        dev_recalls=[0.40, 0.52, 0.55, 0.56, 0.555],
        image=image,
        text=text,
        image_of_text=np.repeat(np.arange(N), 2).tolist(),
        captions=[f"a photo of scene {i}" for i in range(2 * N)],
        caption_groups=np.repeat(np.arange(N), 2).tolist(),
    )


def only(run: RunNumbers) -> Finding:
    findings = diagnose(run)
    assert len(findings) == 1, [finding.title for finding in findings]
    return findings[0]


def test_a_healthy_run_is_left_in_peace() -> None:
    assert diagnose(healthy()) == ()


def test_a_run_that_has_just_begun_is_left_in_peace() -> None:
    assert diagnose(RunNumbers(batch_size=256, losses=[5.6, 5.5, 5.5])) == ()
    assert diagnose(RunNumbers(batch_size=1)) == ()


def test_a_sigmoid_run_below_its_own_chance_is_healthy() -> None:
    losses = [4.0] * STEPS
    assert diagnose(RunNumbers(batch_size=256, loss="sigmoid", losses=losses)) == ()


@pytest.mark.parametrize(("loss", "stuck"), [("infonce", 5.54), ("sigmoid", 6.54)])
def test_a_loss_that_stays_at_chance(loss: str, stuck: float) -> None:
    run = RunNumbers(batch_size=256, loss=loss, losses=[stuck] * STEPS)  # type: ignore[arg-type]
    finding = only(run)
    assert (finding.severity, finding.title) == ("error", "The model has not learned anything")
    assert f"{stuck:.3f}" in finding.explanation
    assert "256" in finding.explanation


def test_chance_of_the_sigmoid_is_the_best_that_a_constant_answer_can_do() -> None:
    size = 16
    probabilities = np.linspace(0.001, 0.5, 20_000)
    cost = -np.log(probabilities) - (size - 1) * np.log(1 - probabilities)
    assert chance_loss(size, "sigmoid") == pytest.approx(float(cost.min()), abs=1e-5)


def test_a_loss_that_became_nan_names_the_step() -> None:
    losses = list(healthy().losses)
    losses[137:] = [math.nan] * (STEPS - 137)
    finding = only(replace(healthy(), losses=losses))
    assert finding.severity == "error"
    assert "step 137" in finding.explanation


def test_a_loss_that_climbs_again() -> None:
    losses = [*healthy().losses[:300], *np.linspace(1.0, 3.0, 100)]
    assert only(replace(healthy(), losses=losses)).title == "The loss climbs again"


def test_a_tower_without_gradient() -> None:
    norms = {**healthy().gradient_norms, "the text tower": [0.0] * STEPS}
    finding = only(replace(healthy(), gradient_norms=norms))
    assert (finding.severity, finding.title) == ("error", "No gradient reaches the text tower")


def test_a_gradient_that_is_not_a_number() -> None:
    norms = {"the text tower": [1.0, math.inf, 1.0]}
    assert "1 of 3 steps" in only(replace(healthy(), gradient_norms=norms)).explanation


def test_a_single_huge_gradient() -> None:
    norms = {"the text tower": [1.0] * 50 + [500.0] + [1.0] * 50}
    finding = only(replace(healthy(), gradient_norms=norms))
    assert finding.severity == "warning"
    assert "500" in finding.explanation


@pytest.mark.parametrize(("final", "words"), [(100.0, "on its bound"), (0.4, "has flattened")])
def test_a_temperature_out_of_range(final: float, words: str) -> None:
    scales = [14.3] * 100 + [final] * 300
    assert words in only(replace(healthy(), logit_scales=scales)).title


def test_a_collapsed_tower() -> None:
    image, text = pairs()
    finding = diagnose(replace(healthy(), text=unit_rows(np.ones_like(text) + 0.01 * text)))[0]
    assert (finding.severity, finding.title) == ("error", "The text embeddings have collapsed")
    exact = diagnose(replace(healthy(), image=np.ones_like(image)))
    assert exact[0].title == "The image embeddings have collapsed"


def test_embeddings_on_a_plane() -> None:
    rng = np.random.default_rng(2)
    plane = rng.standard_normal((N, 2)) @ rng.standard_normal((2, D))
    run = replace(healthy(), image=unit_rows(plane), text=unit_rows(np.repeat(plane, 2, axis=0)))
    titles = [finding.title for finding in diagnose(run)]
    assert titles == [
        "The image embeddings use few dimensions",
        "The text embeddings use few dimensions",
    ]


def test_embeddings_with_a_nan() -> None:
    image, _ = pairs()
    broken = image.copy()
    broken[3, 4] = math.nan
    titles = [finding.title for finding in diagnose(replace(healthy(), image=broken))]
    assert titles == ["The image embeddings are not numbers"]


def test_captions_that_slipped_by_one_row() -> None:
    slipped = np.roll(np.repeat(np.arange(N), 2), 2).tolist()
    finding = only(replace(healthy(), image_of_text=slipped))
    assert finding.title == "Matching pairs are no closer than strangers"


def test_two_towers_far_apart() -> None:
    image, text = pairs()
    finding = only(replace(healthy(), image=unit_rows(image + 0.15), text=unit_rows(text - 0.15)))
    assert (finding.severity, finding.title) == ("note", "Images and texts live far apart")


def test_captions_from_a_template() -> None:
    captions = [f"A photo. {i}" if i % 4 else "A  scan of a brain ." for i in range(2 * N)]
    finding = only(replace(healthy(), captions=captions))
    assert "25%" in finding.explanation
    assert "'a scan of a brain' (32 times)" in finding.explanation


def test_the_same_words_twice_under_one_image_are_fine() -> None:
    captions = [f"scene {i // 2}" for i in range(2 * N)]
    assert diagnose(replace(healthy(), captions=captions)) == ()


def test_over_fitting_names_the_evaluation_to_go_back_to() -> None:
    run = replace(healthy(), dev_recalls=[0.50, 0.56, 0.55, 0.54, 0.52])
    finding = only(run)
    assert finding.title == "The run over-fits"
    assert "checkpoint of evaluation 2" in finding.cure


def test_recall_that_wobbles_or_falls_with_the_loss_rising_is_not_over_fitting() -> None:
    assert diagnose(replace(healthy(), dev_recalls=[0.50, 0.56, 0.54, 0.53, 0.558])) == ()
    diverging = replace(
        healthy(), epoch_losses=[2.5, 1.8, 1.9, 2.4, 3], dev_recalls=[0.5, 0.56, 0.5, 0.4, 0.3]
    )
    assert diagnose(diverging) == ()


def test_the_worst_comes_first_and_reads_as_a_sentence() -> None:
    run = replace(
        healthy(),
        logit_scales=[100.0] * STEPS,
        gradient_norms={"the image head": [0.0] * STEPS},
    )
    first, second = diagnose(run)
    assert (first.severity, second.severity) == ("error", "warning")
    assert str(first).startswith("error: No gradient reaches the image head. Its gradient norm")


def test_effective_rank_counts_the_directions_that_are_used() -> None:
    corners = np.concatenate([np.eye(4), -np.eye(4)])  # centred, four equal directions
    assert effective_rank(corners) == pytest.approx(4)
    assert effective_rank(np.ones((8, 4))) == 0
