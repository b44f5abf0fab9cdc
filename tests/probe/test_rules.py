"""From scores to decisions: each fold is judged by rules that have not seen it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from miniclip.probe.abstain import choose_threshold
from miniclip.probe.calibration import fit_temperature, softmax
from miniclip.probe.conformal import coins_of, conformal_quantiles, prediction_sets
from miniclip.probe.rules import HeldOut, Rules, RuleSettings, cross_judge, fit_rules, judge

IMAGES, CLASSES, FOLDS = 400, 4, 5


def make_held_out(sharpness: float = 3.0, seed: int = 0) -> HeldOut:
    """Scores whose winner is right about nine times out of ten, of pictures in pairs."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=IMAGES)
    scores = rng.normal(size=(IMAGES, CLASSES))
    scores[np.arange(IMAGES), labels] += 2.5
    contents = tuple(f"{int(number):064x}" for number in rng.integers(1 << 60, size=IMAGES))
    return HeldOut(scores * sharpness, labels, np.arange(IMAGES) // 2, contents)


@pytest.mark.parametrize("sets", ["lac", "aps", "raps-whole"])
@pytest.mark.parametrize("per_class", [False, True])
def test_each_fold_is_judged_as_new_images_would_be(sets: str, per_class: bool) -> None:
    held = make_held_out()
    fold_of = held.group % FOLDS
    settings = RuleSettings(alpha=0.1, sets=sets, per_class=per_class, target_error=0.05)
    judged = cross_judge(held, fold_of, settings)
    coins = coins_of(held.contents)
    for fold in range(FOLDS):
        inside, others = fold_of == fold, fold_of != fold
        temperature = fit_temperature(held.scores[others], held.labels[others])
        known = softmax(held.scores[others], temperature)
        quantiles = conformal_quantiles(
            known, held.labels[others], 0.1, sets, per_class=per_class, coins=coins[others]
        )
        hits = known.argmax(axis=1) == held.labels[others]
        chosen = choose_threshold(known.max(axis=1), hits, 0.05, held.group[others], seed=0)
        said = softmax(held.scores[inside], temperature)
        np.testing.assert_allclose(judged.probabilities[inside], said)
        np.testing.assert_array_equal(
            judged.label_sets[inside], prediction_sets(said, quantiles, sets, coins=coins[inside])
        )
        np.testing.assert_array_equal(
            judged.automatic[inside], said.max(axis=1) >= chosen.threshold
        )


def test_the_labels_of_a_fold_change_nothing_about_it() -> None:
    held = make_held_out()
    fold_of = held.group % FOLDS
    before = cross_judge(held, fold_of, RuleSettings())
    other = held.labels.copy()
    other[fold_of == 2] = (other[fold_of == 2] + 1) % CLASSES
    changed = HeldOut(held.scores, other, held.group, held.contents)
    after = cross_judge(changed, fold_of, RuleSettings())
    inside = fold_of == 2
    np.testing.assert_array_equal(before.probabilities[inside], after.probabilities[inside])
    assert not np.array_equal(before.probabilities[~inside], after.probabilities[~inside])


def test_rules_undo_a_boastful_head_and_decide_at_their_threshold() -> None:
    held = make_held_out(sharpness=30.0)
    rules = fit_rules(held, RuleSettings(target_error=0.05))
    modest = fit_rules(make_held_out(sharpness=3.0), RuleSettings(target_error=0.05))
    assert rules.temperature == pytest.approx(10 * modest.temperature, rel=1e-3)
    judged = judge(rules, held.scores, held.contents)
    np.testing.assert_array_equal(
        judged.automatic, judged.probabilities.max(axis=1) >= rules.threshold
    )
    assert 0.3 < judged.automatic.mean() < 1


def test_rules_survive_json() -> None:
    rules = fit_rules(make_held_out(), RuleSettings(per_class=True))
    again = Rules.from_dict(json.loads(json.dumps(rules.to_dict())))
    held = make_held_out(seed=1)
    one, other = (judge(each, held.scores, held.contents) for each in (rules, again))
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.label_sets, other.label_sets)
    assert again.expected_error == rules.expected_error
