"""Templates and label lists: from what a user writes to sentences. It encodes nothing.

A template is a sentence with exactly one `{}` for the label. `DEFAULT_TEMPLATES` is a general set
for photos, chosen by reasoning and not by looking at any result: sentences with and without an
article (so that "a photo of cardboard" reads as well as "a photo of a dog"), near and far, bright
and dark, clean and poor shots, after the prompt ensembles of Radford et al. 2021 (CLIP),
section 3.1.4.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from miniclip.errors import ConfigError
from miniclip.textfile import read_lines

SLOT = "{}"

DEFAULT_TEMPLATES: tuple[str, ...] = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of {}.",
    "a close-up photo of a {}.",
    "a close-up photo of {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a cropped photo of a {}.",
    "a blurry photo of a {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a photo of one {}.",
    "a picture of {}.",
    "there is a {} in the picture.",
)


def fill(templates: Sequence[str], label: str) -> tuple[str, ...]:
    """Write the sentences for one label, one per template; braces in the label stay."""
    return tuple(template.replace(SLOT, label) for template in templates)


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates; ConfigError unless there is one and each has exactly one `{}`."""
    for number, template in enumerate(templates, start=1):
        _check_template(template, f"template {number}")
    if not templates:
        raise ConfigError(f"no templates given; write at least one sentence with {SLOT} in it")
    return tuple(templates)


def read_templates(path: Path) -> tuple[str, ...]:
    """Templates from a UTF-8 file: one a line, exactly one `{}` each; '#' starts a comment line.

    Raises ConfigError that names the file and line.
    """
    lines = read_lines(path, "templates", comments=True)
    for number, template in lines:
        _check_template(template, f"{path}, line {number}")
    return tuple(line.text for line in lines)


def parse_labels(value: str) -> tuple[str, ...]:
    """Labels from "cat,dog", or from a UTF-8 file with one label per line ('#' starts a comment).

    A value that is the path of an existing file is read as that file. In a list, a label in double
    quotes may hold commas, as in a table (RFC 4180). Raises ConfigError for empty or repeated
    labels, for a quote that does not end, and for what looks like a file but is none.
    """
    if os.path.isfile(value):
        lines = read_lines(Path(value), "labels", comments=True)
        return check_labels([line.text for line in lines], origin=value)
    if "," not in value and Path(value).suffix in {".txt", ".csv", ".list"}:
        raise ConfigError(
            f"no labels file at {value!r}; check the path, or give the labels as cat,dog,horse"
        )
    try:
        (labels,) = csv.reader([value], skipinitialspace=True, strict=True) if value else ([],)
    except csv.Error as error:
        raise ConfigError(
            f"the label list {value[:80]!r} cannot be read ({error}); write a label that holds a "
            'comma as "cat, brown",dog or give a file with one label a line'
        ) from error
    return check_labels([label.strip() for label in labels], origin="the label list")


def check_labels(labels: Sequence[str], origin: str = "the label list") -> tuple[str, ...]:
    """Return the labels; ConfigError when there is none, or one is empty or given twice."""
    if not any(label.strip() for label in labels):
        raise ConfigError(f"{origin} holds no labels; give some, such as cat,dog,horse")
    seen: dict[str, int] = {}
    for position, label in enumerate(labels, start=1):
        if not label.strip():
            raise ConfigError(
                f"label {position} of {origin} is empty; remove it or the comma too many"
            )
        if label in seen:
            raise ConfigError(
                f"label {label!r} is given twice in {origin} (as number {seen[label]} and "
                f"{position}); remove one, equal labels would share their probability"
            )
        seen[label] = position
    return tuple(labels)


def _check_template(template: str, where: str) -> None:
    if (slots := template.count(SLOT)) != 1:
        raise ConfigError(
            f"{where}: {template!r} has {slots} times {SLOT}; write exactly one, where the label "
            f"goes, such as 'a photo of a {SLOT}.'"
        )
