"""Cards for people: of a data set, and what an audit adds to that of a model. Facts alone.

After Pushkarna, Zaldivar and Kjartansson (2022), "Data Cards", and Mitchell et al. (2019), "Model
Cards for Model Reporting", whose quantitative analyses are by subgroup. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from miniclip.audit.groups import ColumnAudit, GroupsAudit
from miniclip.audit.identity import KINDS
from miniclip.audit.provenance import DataAudit
from miniclip.probe.intervals import Score

SECTION = "## By subgroup"
_QUESTIONS = (
    "Who gathered the images, for what, and who paid for it?",
    "Do the people who are shown, or whose images these are, know and agree?",
    "Who put the labels, by which rule, and how often did two of them disagree?",
    "What was left out, and who is missing?",
    "What must it not be used for, who answers for it, and until when is it kept?",
)


def data_card(audit: DataAudit, *, command: str) -> str:
    """Return the card of a data set, UTF-8 Markdown: what the files say, then what they cannot."""
    traces = [f"- {count:,} images tell {KINDS[kind]}" for kind, count in audit.traces.items()]
    parts = [
        f"# Data of {_plain(audit.name)}",
        f"{audit.images:,} images, {audit.bytes / 1e6:,.1f} MB, from {audit.pixels.least:,.0f} to "
        f"{audit.pixels.largest:,.0f} pixels, median {audit.pixels.median:,.0f}. Fingerprint of "
        f"the contents: `{audit.fingerprint[:12]}`.",
        "## What went in",
        _table("format", audit.formats),
        _table("year taken", audit.years),
        _table("camera", audit.cameras),
        "## Repeats",
        f"{audit.exact:,} files are byte-identical to others, {audit.near:,} more show the same "
        f"picture, in {len(audit.repeats):,} groups. Keep each on one side of a split.",
        "## Licences",
        _table("named in the files", audit.licences),
        "## What the files tell of people",
        "\n".join(traces) if traces else "Nothing besides the pictures themselves.",
        *(["## Left out", f"{len(audit.skipped):,} files cannot be read."] * bool(audit.skipped)),
        "## What no file can tell",
        "\n".join(f"- {question} *Not answered yet.*" for question in _QUESTIONS),
        f"Made with `{command}`.",
    ]
    return "\n\n".join(parts) + "\n"


def with_subgroups(card: str, audit: GroupsAudit) -> str:
    """Return a model card with the figures of an audit at its end, in place of older ones."""
    before = card.partition(f"\n{SECTION}\n")[0].rstrip("\n")
    said = [f"- {_plain(alarm)}" for alarm in audit.alarms] or [
        f"- No alarm: {audit.tests} gaps were tested, and chance explains all of them."
    ]
    parts = [before, SECTION, f"On {_plain(audit.data)}: {audit.protocol}"]
    parts += [_subgroups(column) for column in audit.columns]
    return "\n\n".join([*parts, "\n".join(said)]) + "\n"


def _subgroups(column: ColumnAudit) -> str:
    rows = [
        f"| {_plain(one.name)} | {one.images:,} | {_percent(one.accuracy)} | {_percent(one.ece)} "
        f"| {_percent(one.coverage)} | {_percent(one.automatic)} |"
        for one in column.subgroups
    ]
    head = f"| {_plain(column.column)} | images | accuracy | ECE | sets hold it | automatic |"
    lines = [head, "|---|---|---|---|---|---|", *rows]
    if column.worst:
        worst = f"\nWorst: {_plain(column.worst.subgroup)}, {_percent(column.worst.accuracy)}."
        lines.append(worst)
    return "\n".join(lines)


def _table(name: str, counts: Mapping[str, int]) -> str:
    rows = [f"| {_plain(value)} | {count:,} |" for value, count in counts.items()]
    return "\n".join([f"| {name} | images |", "|---|---|", *rows])


def _percent(score: Score | None) -> str:
    if score is None:
        return "-"
    low, high = score.interval
    return f"{score.value:.1%} [{low:.1%}, {high:.1%}]"


def _plain(text: str) -> str:
    """Keep data from becoming Markdown or HTML."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return text
