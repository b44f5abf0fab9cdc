"""How well an audit finds a subgroup gap that is there, and how often one that is not.

    python benchmarks/audit.py --simulations 300

Simulated answers of a classifier of 3 classes, 600 images in 4 subgroups, in four worlds: single
images or patients with 1 to 6 images that share their luck, with and without a planted gap. In the
worlds of patients the subgroups are of very different sizes, one has a single image a patient,
and their classes are mixed differently. Prints a Markdown table for docs/audit.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from miniclip.audit.answers import Answers
from miniclip.audit.parity import adjusted, gaps_of, worst_of

IMAGES, CLASSES, NAMES = 600, ("one", "two", "three"), ("w", "x", "y", "z")
USUAL, PLANTED = 0.9, 0.15  # accuracy, and what the worst subgroup lacks of it
COVERED, AUTOMATIC = 0.9, 0.6
# In the worlds of patients: sizes of subgroups, and how often each class occurs in them.
SIZES = (0.4, 0.3, 0.2, 0.1)
MIXES = ((0.5, 0.3, 0.2), (0.2, 0.5, 0.3), (0.3, 0.3, 0.4), (0.34, 0.33, 0.33))


@dataclass
class Tally:
    """Counts over the simulations of one world."""

    alarms: int = 0
    found: int = 0
    covered: int = 0
    worst_covered: int = 0
    estimate: float = 0.0
    width: float = 0.0


def world(
    rng: np.random.Generator, gap: float, patients: bool
) -> tuple[Answers, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Draw the answers for 600 images and the subgroup of each; the second one has the gap."""
    if patients:
        of_patient = rng.choice(4, p=SIZES, size=IMAGES)
        images = np.where(of_patient == 0, 1, rng.integers(1, 7, size=IMAGES))
        cluster = np.repeat(np.arange(IMAGES), images)[:IMAGES]
        subgroup = of_patient[cluster]
        labels = np.array([rng.choice(3, p=MIXES[one]) for one in subgroup])
    else:
        cluster, subgroup = np.arange(IMAGES), rng.integers(4, size=IMAGES)
        labels = rng.integers(3, size=IMAGES)
    rate = np.where(subgroup == 1, USUAL - gap, USUAL)
    luck = rng.beta(8, 8 / USUAL - 8, size=IMAGES)
    luck = luck[cluster] if patients else np.full(IMAGES, USUAL)
    confidence = np.clip(luck, 0.34, 1)
    right = rng.random(IMAGES) < rate * luck / USUAL
    wrong = (labels + rng.integers(1, 3, size=IMAGES)) % 3
    answers = Answers(
        classes=CLASSES,
        labels=labels.astype(np.int64),
        predicted=np.where(right, labels, wrong).astype(np.int64),
        confidence=confidence,
        cluster=np.unique(cluster, return_inverse=True)[1].astype(np.int64),
        covered=right | (rng.random(IMAGES) < 1 - (1 - COVERED) / (1 - USUAL)),
        automatic=rng.random(IMAGES) < AUTOMATIC,
    )
    return answers, subgroup.astype(np.int64)


def simulate(gap: float, patients: bool, simulations: int) -> Tally:
    tally = Tally()
    for seed in range(simulations):
        rng = np.random.default_rng([seed, int(patients), int(gap > 0)])
        answers, subgroup = world(rng, gap, patients)
        (gaps,) = adjusted([gaps_of(answers, subgroup, NAMES, fewest=10, seed=seed)])
        by_name = {one.name: one for one in gaps}
        accuracy, worst = by_name["accuracy"], worst_of(answers, subgroup, NAMES)
        # Where labels are mixed differently, a gap in demographic parity is there in truth.
        counted = [one for one in gaps if not (patients and one.name == "demographic parity")]
        tally.alarms += any(one.alarm for one in counted)
        tally.found += accuracy.alarm and accuracy.lowest == "x"
        low, high = accuracy.difference.interval
        tally.covered += low <= gap <= high
        low_worst, high_worst = worst.accuracy.interval
        tally.worst_covered += low_worst <= USUAL - gap <= high_worst
        tally.estimate += accuracy.difference.value
        tally.width += high - low
    return tally


def rows(simulations: int) -> Iterator[str]:
    columns = (
        *("world", "true gap", "mean estimate", "interval covers it", "mean width"),
        *("interval of the worst covers it", "gap found", "any alarm"),
    )
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for patients in (False, True):
        for gap in (0.0, PLANTED):
            said = simulate(gap, patients, simulations)
            shares = [
                f"{100 * count / simulations:.1f} %"
                for count in (said.covered, said.worst_covered, said.found, said.alarms)
            ]
            estimate, width = (100 * total / simulations for total in (said.estimate, said.width))
            yield (
                f"| {'patients' if patients else 'single images'} | {100 * gap:.0f} % | "
                f"{estimate:.1f} % | {shares[0]} | {width:.1f} % | {' | '.join(shares[1:])} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=300)
    for row in rows(parser.parse_args().simulations):
        print(row, flush=True)


if __name__ == "__main__":
    main()
