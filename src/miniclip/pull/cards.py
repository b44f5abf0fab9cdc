"""What a model's card says about its licence, and whether that allows commercial use.

The card is README.md with a block of YAML at its front, as on the hub. This is no legal advice: a
licence that is not known here is said to be so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from miniclip.errors import BundleError

FILE = "README.md"
UNKNOWN = "unknown"
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)

# Identifiers of SPDX whose terms allow commercial use.
_OPEN = {
    name.lower(): name
    for name in (
        *("Apache-2.0", "MIT", "MIT-0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Unlicense", "Zlib"),
        *(
            "CC0-1.0",
            "CC-BY-3.0",
            "CC-BY-4.0",
            "CC-BY-SA-3.0",
            "CC-BY-SA-4.0",
            "BSL-1.0",
            "ECL-2.0",
        ),
        *("MPL-2.0", "EPL-2.0", "EUPL-1.2", "AFL-3.0", "Artistic-2.0", "MS-PL", "WTFPL"),
    )
}
_CLOSED = re.compile(
    r"(^|[-_ ])nc($|[-_ ])|non[-_ ]?commercial|research[-_ ]only|amlr", re.IGNORECASE
)


def read_card(directory: Path) -> str | None:
    """Return the text of the card; None when there is none. BundleError if unreadable."""
    try:
        return (directory / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise BundleError(f"{directory / FILE} cannot be read ({error}); remove it") from error


def licence_of(card: str | None) -> str:
    """Return the licence that a card states, as an SPDX identifier where it is one; or "unknown".

    A licence without an identifier is called by its name: "other" says nothing.
    """
    facts = _front_matter(card or "")
    stated = facts.get("license")
    if isinstance(stated, list):
        return " AND ".join(_OPEN.get(str(part).lower(), str(part)) for part in stated) or UNKNOWN
    licence, name, link = map(_text, (stated, facts.get("license_name"), facts.get("license_link")))
    if licence.lower() in ("other", ""):
        licence = name or (f"see {link}" if link else UNKNOWN)
    return _OPEN.get(licence.lower(), licence)


def commercial_doubt(licence: str) -> str | None:
    """Say why commercial use may not be allowed; None when the licence is known to allow it."""
    if licence == UNKNOWN:
        return "the model's card states no licence, so nothing allows commercial use"
    if _CLOSED.search(licence):
        return f"the licence {licence} forbids commercial use"
    if all(part.strip().lower() in _OPEN for part in licence.split(" AND ")):
        return None
    return f"it is not known here whether the licence {licence} allows commercial use; read it"


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _front_matter(card: str) -> dict[str, Any]:
    found = _FRONT.match(card)
    try:
        facts = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return {}
    return facts if isinstance(facts, dict) else {}
