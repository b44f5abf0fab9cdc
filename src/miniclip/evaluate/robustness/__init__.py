"""How much a model bears: the same images, corrupted in known kinds and degrees.

The order of a run: labelled images or captions in, contestants made of models, vectors of every
image in every condition, figures of each contestant against severity, comparisons in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError
from miniclip.evaluate.robustness.conditions import CLEAN, Condition, CorruptedImages
from miniclip.evaluate.robustness.contestants import Contestant, Measured, headline
from miniclip.evaluate.robustness.corruption_error import Correct, corruption_errors
from miniclip.evaluate.robustness.results import ModelResult, Paired, RobustnessResult, Worst
from miniclip.evaluate.robustness.subjects import Units
from miniclip.probe.comparison import compare

StartBar = Callable[[str, int | None], Callable[[int], None]]

_WORST = 12
_WORST_OF_ONE = 2  # shown of one corruption


def run_robustness(
    contestants: Sequence[Contestant],
    units: Units,
    pictures: Mapping[str, CorruptedImages],
    *,
    corruptions: Sequence[str],
    severities: Sequence[int],
    baseline: str | None = None,
    judged_by: Mapping[str, str] | None = None,
    start: StartBar = lambda _what, _total: lambda _done: None,
) -> RobustnessResult:
    """Put contestants to the same test.

    units: what is right or wrong, one for each entry of `Measured`. pictures: the images under
    corruption, by the fingerprint of the encoder. baseline: the name of one contestant, by default
    the first if there are several. start: starts a progress bar. Raises ConfigError for a baseline
    that is none of them.
    """
    names = [one.name for one in contestants]
    baseline = baseline or (names[0] if len(names) > 1 else None)
    if baseline not in (None, *names):
        raise ConfigError(f"the baseline {baseline!r} is none of {', '.join(names)}; name one")
    conditions = [CLEAN] + [Condition(name, one) for name in corruptions for one in severities]
    computed = 0
    for own in pictures.values():
        total = len(conditions) * len(own.views) * len(set(own.contents))
        computed += own.fill(conditions, start(f"embedding for {own.encoder.name}", total))
    measured = {
        one.name: {
            condition: one.measure(pictures[one.encoder.fingerprint].seen(condition, one.views))
            for condition in conditions
        }
        for one in contestants
    }
    correct: dict[str, Correct] = {
        name: {condition: found.correct for condition, found in own.items()}
        for name, own in measured.items()
    }
    said = judged_by or {}
    return RobustnessResult(
        data=units.data,
        protocol=units.protocol(conditions),
        headline=headline(contestants),
        images=len(units.names),
        corruptions=tuple(corruptions),
        severities=tuple(severities),
        baseline=baseline,
        models=tuple(
            ModelResult(
                name=one.name,
                bundle=one.encoder.name,
                judged_by=said.get(one.name, "the model as it is"),
                figures={
                    condition: found.figures for condition, found in measured[one.name].items()
                },
                errors=corruption_errors(
                    correct[one.name], correct[baseline] if baseline else None, units.group
                ),
                worst=_worst(measured[one.name], units),
            )
            for one in contestants
        ),
        paired=tuple(
            _paired(name, baseline, correct[name], correct[baseline], units.group)
            for name in names
            if baseline and name != baseline
        ),
        skipped=units.skipped,
        warnings=units.warnings,
        computed=computed,
    )


def _paired(name: str, baseline: str, own: Correct, base: Correct, group: IntArray) -> Paired:
    def together(corruptions: set[str]) -> tuple[NDArray[np.bool_], ...]:
        chosen = [condition for condition in own if condition.corruption in corruptions]
        return (
            np.concatenate([own[one] for one in chosen]),
            np.concatenate([base[one] for one in chosen]),
            np.tile(group, len(chosen)),
        )

    corruptions = list(dict.fromkeys(one.corruption for one in own if one != CLEAN))
    by_corruption = {
        each: compare(*together({each}), names=(name, baseline)) for each in corruptions
    }
    adjusted = false_discovery_control([one.p for one in by_corruption.values()])
    return Paired(
        compare(*together(set(corruptions)), names=(name, baseline)),
        by_corruption,
        dict(zip(by_corruption, adjusted.tolist(), strict=True)),
    )


def _worst(measured: Mapping[Condition, Measured], units: Units) -> tuple[Worst, ...]:
    """Find the surest wrong answers to what was right when clean.

    An image stands there once, a corruption twice.
    """
    conditions = [condition for condition in measured if condition != CLEAN]
    wrongness = np.stack([measured[condition].wrongness for condition in conditions])
    wrongness[:, ~measured[CLEAN].correct] = -1
    shown: list[Worst] = []
    seen: set[int] = set()
    of_one = dict.fromkeys((condition.corruption for condition in conditions), 0)
    for place in np.argsort(-wrongness, axis=None, kind="stable").tolist():
        number, unit = divmod(place, wrongness.shape[1])
        condition, row = conditions[number], int(units.row_of[unit])
        if wrongness[number, unit] < 0 or len(shown) == _WORST:
            break
        if row in seen or of_one[condition.corruption] == _WORST_OF_ONE:
            continue
        seen.add(row)
        of_one[condition.corruption] += 1
        said = measured[condition].said[unit]
        shown.append(
            Worst(
                units.names[row],
                row,
                condition,
                units.truth[unit],
                said,
                float(wrongness[number, unit]),
            )
        )
    return tuple(shown)


__all__ = ["RobustnessResult", "run_robustness"]
