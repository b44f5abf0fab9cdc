"""Whom a classifier serves worse: its figures by subgroup, the worst of them, gaps and alarms.

The answers come from answers.py, the subgroups from columns.py, gaps and tests from parity.py; here
they are put together. It reads no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import IntArray
from miniclip.audit.answers import Answers, Asked
from miniclip.audit.parity import Gap, Worst, adjusted, gaps_of, worst_of
from miniclip.embed import Skipped
from miniclip.errors import ConfigError
from miniclip.probe.calibration import BINS, ece_by_chance, equal_mass_bins
from miniclip.probe.intervals import Score, bootstrap, group_sums, number_groups, share
from miniclip.probe.results import to_json
from miniclip.probe.scores import ece_score

FEWEST = 10  # clusters of a subgroup that is compared


@dataclass(frozen=True)
class Subgroup:
    """Figures of one subgroup, each with a 95 % interval of its own.

    recall: by class, None where it has no such image. ece: of the answers, by bins of its own;
    ece_by_chance: what a perfectly calibrated model would get on as many images. overconfidence:
    mean confidence less accuracy. compared: whether it is large enough for gaps and tests.
    """

    name: str
    images: int
    clusters: int
    accuracy: Score
    recall: Mapping[str, Score | None]
    ece: Score
    ece_by_chance: float
    overconfidence: float
    coverage: Score | None
    automatic: Score | None
    compared: bool = True


@dataclass(frozen=True)
class ColumnAudit:
    """The subgroups of one column, largest first, and the gaps between those large enough.

    labels_differ: the largest difference of the share of a class between compared subgroups: a gap
    in demographic parity of that size lies in the data. worst, gaps: none below two subgroups.
    """

    column: str
    subgroups: tuple[Subgroup, ...]
    worst: Worst | None
    gaps: tuple[Gap, ...]
    labels_differ: float
    examples: Mapping[str, tuple[str, ...]]

    @property
    def alarms(self) -> tuple[str, ...]:
        """What to look at, in words."""
        return tuple(self._alarm(gap) for gap in self.gaps if gap.alarm)

    def _alarm(self, gap: Gap) -> str:
        low, high = (round(100 * end, 1) for end in gap.difference.interval)
        of = f" of {gap.of}" if gap.of is not None else ""
        said = (
            f"{self.column}: {gap.name}{of} differs by {100 * gap.difference.value:.1f} % "
            f"[{low}, {high}], lowest for {gap.lowest}, highest for {gap.highest} "
            f"(p = {gap.p_adjusted:.2g} after Holm)"
        )
        if gap.name == "demographic parity" and self.labels_differ > 0:
            said += f"; the labels themselves differ by up to {100 * self.labels_differ:.1f} %"
        return said


@dataclass(frozen=True)
class GroupsAudit:
    """The figures of a classifier by subgroup.

    all: over all images. tests: how many gaps were tested; p values are adjusted for all of them.
    """

    model: str
    data: str
    classes: tuple[str, ...]
    protocol: str
    overall: Subgroup
    columns: tuple[ColumnAudit, ...]
    tests: int
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[str, ...]:
        """Every gap that chance does not explain."""
        return tuple(alarm for column in self.columns for alarm in column.alarms)

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip audit groups --json` prints."""
        rest = ("overall", "columns", "tests", "protocol", "classes", "warnings", "skipped")
        return {
            "model": self.model,
            "data": self.data,
            "alarms": list(self.alarms),
            **{name: to_json(getattr(self, name)) for name in rest},
        }

    def __str__(self) -> str:
        lines = [self.protocol]
        for column in self.columns:
            lines += ["", f"{column.column}:", _HEAD]
            lines += [_line(one) for one in (*column.subgroups, self.overall)]
            if column.worst:
                lines.append(f"  worst: {column.worst.subgroup} {column.worst.accuracy}")
        lines += ["", *(f"alarm: {alarm}" for alarm in self.alarms)]
        if not self.alarms:
            lines.append(f"no alarm: {self.tests} gaps tested, none that chance does not explain")
        return "\n".join(lines)


_HEAD = f"  {'':24} {'images':>7}  {'accuracy':22} {'ECE':7} {'coverage':9} automatic"


def _line(one: Subgroup) -> str:
    coverage, automatic = (
        f"{score.value:.1%}" if score else "-" for score in (one.coverage, one.automatic)
    )
    low, high = one.accuracy.interval
    accuracy = f"{one.accuracy.value:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
    few = "" if one.compared else "  too few to compare"
    return (
        f"  {one.name[:24]:24} {one.images:>7,}  {accuracy:22} {one.ece.value:<7.1%} "
        f"{coverage:9} {automatic}{few}"
    )


def audit_groups(
    asked: Asked,
    columns: Mapping[str, Sequence[str]],
    *,
    model: str,
    fewest: int = FEWEST,
    seed: int = 0,
) -> GroupsAudit:
    """Measure every subgroup of every column, and test every gap.

    columns: column -> subgroup of each image. fewest: subgroups of fewer clusters are shown and not
    compared, nor are rates of fewer images. ConfigError for no columns, or columns of a wrong
    length.
    """
    answers = asked.answers
    if not columns:
        raise ConfigError("there is no column to audit by; name one, or discover clusters")
    found = [_column(answers, column, cells, fewest, seed) for column, cells in columns.items()]
    gaps = adjusted([column.gaps for column in found])
    corrected = [
        ColumnAudit(c.column, c.subgroups, c.worst, own, c.labels_differ, c.examples)
        for c, own in zip(found, gaps, strict=True)
    ]
    return GroupsAudit(
        model=model,
        data=asked.name,
        classes=answers.classes,
        protocol=(
            f"{len(answers):,} images in {answers.cluster.max() + 1:,} clusters: {asked.kept:,} "
            f"answers held out by the fit, {asked.new:,} new ones. 95 % intervals over clusters; "
            f"p values by Holm over all gaps; subgroups below {fewest} clusters are not compared."
        ),
        overall=_figures("all", answers, seed, compared=True),
        columns=tuple(corrected),
        tests=sum(len(column.gaps) for column in corrected),
        skipped=asked.skipped,
        warnings=asked.warnings,
    )


def _column(
    answers: Answers, column: str, cells: Sequence[str], fewest: int, seed: int
) -> ColumnAudit:
    if len(cells) != len(answers):
        raise ConfigError(f"{column} has {len(cells)} values for {len(answers)} images")
    values = np.array(cells, dtype=str)
    names, number = np.unique(values, return_inverse=True)
    sizes = [len(np.unique(answers.cluster[number == place])) for place in range(len(names))]
    order = sorted(range(len(names)), key=lambda place: (-int((number == place).sum()), place))
    subgroups = [
        _figures(str(names[p]), answers.rows(number == p), seed, compared=sizes[p] >= fewest)
        for p in order
    ]
    large = [one.name for one in subgroups if one.compared]
    worst: Worst | None = None
    gaps: tuple[Gap, ...] = ()
    labels_differ = 0.0
    if len(large) > 1:
        inside = np.isin(values, large)
        place_of = {name: place for place, name in enumerate(large)}
        place = np.array([place_of[cell] for cell in values[inside].tolist()], dtype=np.int64)
        some = answers.rows(inside)
        worst = worst_of(some, place, large)
        gaps = gaps_of(some, place, large, fewest=fewest, seed=seed)
        labels_differ = _labels_differ(some, place, len(large))
    return ColumnAudit(
        column, tuple(subgroups), worst, gaps, labels_differ, _examples(answers, subgroups, values)
    )


def _figures(name: str, answers: Answers, seed: int, *, compared: bool) -> Subgroup:
    cluster = answers.cluster
    recall: dict[str, Score | None] = {}
    for c, of in enumerate(answers.classes):
        own = answers.labels == c
        recall[of] = share(answers.correct[own], cluster[own], seed=seed) if own.any() else None
    by_chance = ece_by_chance(answers.confidence[:, None], seed=seed)
    coverage, automatic = (
        None if hits is None else share(hits, cluster, seed=seed)
        for hits in (answers.covered, answers.automatic)
    )
    return Subgroup(
        name=name,
        images=len(answers),
        clusters=len(np.unique(cluster)),
        accuracy=share(answers.correct, cluster, seed=seed),
        recall=recall,
        ece=_ece(answers, by_chance, seed),
        ece_by_chance=float(by_chance.mean()),
        overconfidence=float(answers.confidence.mean() - answers.correct.mean()),
        coverage=coverage,
        automatic=automatic,
        compared=compared,
    )


def _ece(answers: Answers, by_chance: NDArray[np.float64], seed: int) -> Score:
    """ECE of equal-mass bins, as `score_classifier` has it, from the confidence alone."""
    gap = answers.confidence - answers.correct
    bins = np.eye(BINS)[equal_mass_bins(answers.confidence)] * gap[:, None]
    group, count = number_groups(answers.cluster, len(answers))
    sums = group_sums(np.column_stack([bins, np.ones(len(answers))]), group)

    def ece(weights: NDArray[Any]) -> dict[str, NDArray[Any]]:
        drawn = weights.T @ sums
        return {"ece": np.abs(drawn[:, :BINS]).sum(axis=1) / drawn[:, BINS]}

    value = float(ece(np.ones((count, 1)))["ece"][0])
    return ece_score(value, bootstrap(ece, count, seed=seed)["ece"], by_chance)


def _labels_differ(answers: Answers, place: IntArray, count: int) -> float:
    table = np.zeros((count, len(answers.classes)))
    np.add.at(table, (place, answers.labels), 1)
    shares = table / table.sum(axis=1, keepdims=True)
    return float((shares.max(axis=0) - shares.min(axis=0)).max())


def _examples(
    answers: Answers, subgroups: Sequence[Subgroup], values: NDArray[Any]
) -> dict[str, tuple[str, ...]]:
    """Name three images of each subgroup: those most like all of it, where features are known."""
    if answers.features is None or not answers.names:
        return {}
    found = {}
    for one in subgroups:
        rows = np.flatnonzero(values == one.name)
        near = answers.features[rows] @ answers.features[rows].mean(axis=0)
        near = near / np.maximum(np.linalg.norm(answers.features[rows], axis=1), 1e-9)
        found[one.name] = tuple(answers.names[rows[at]] for at in np.argsort(-near)[:3].tolist())
    return found
