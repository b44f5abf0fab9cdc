"""What a photo says of its owner and a scan of its patient is in no file and no line of ours."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.audit.planted import DECIMAL, PATIENT, PLANTED, photo, scan
from tests.cli.conftest import Cli, cli
from tests.probe.photos import COLOURS, make_photo

__all__ = ["cli"]


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Fill a class folder for each colour: photos of one owner, and scans of one patient."""
    pytest.importorskip("pydicom")
    root, rng = tmp_path / "data", np.random.default_rng(0)
    for label in COLOURS:
        (root / label).mkdir(parents=True)
        for number in range(8):
            suffix = (".jpg", ".png", ".webp", ".tif")[number % 4]
            photo(root / label / f"{number}{suffix}", make_photo(label, rng))
        grey = np.asarray(make_photo(label, rng).convert("L"))
        scan(root / label / "scan.dcm", grey)
        (root / label / "broken.dcm").write_bytes((root / label / "scan.dcm").read_bytes()[:700])
    for path in root.rglob("*.*"):
        os.utime(path, (1e9, 1e9))  # an index reads young files again
    return root


def leaks(data: bytes) -> list[str]:
    forms = ("utf-8", "utf-16-le", "utf-16-be")
    found = [text for text in PLANTED if any(text.encode(form) in data for form in forms)]
    numbers = [struct.pack(form, number) for form in ("<d", ">d") for number in DECIMAL]
    return found + ["a binary number"] * any(number in data for number in numbers)


def test_the_files_do_hold_what_is_looked_for(planted: Path) -> None:
    held = {
        text for path in planted.rglob("*") if path.is_file() for text in leaks(path.read_bytes())
    }

    assert {text for text in PLANTED if not text[0].isdigit()} <= held


def test_no_verb_writes_or_prints_it(cli: Cli, planted: Path, tmp_path: Path, home: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    model = out / "model"
    calls: tuple[tuple[object, ...], ...] = (
        ("index", planted, "--json"),
        ("search", "a red thing", planted, "--html", out / "search.html", "--json"),
        ("search", "a red thing", planted, "--by", "both", "--csv", "--min-confidence", 0),
        ("duplicates", planted, "--html", out / "duplicates.html", "--json"),
        ("map", planted, "--html", out / "map.html"),
        ("classify", planted, "--labels", "red,green,blue", "--json"),
        ("fit", planted, "-o", model, "--head", "logistic", "--folds", 3, "--json"),
        ("predict", model, planted, "--csv", out / "said.csv", "--json"),
        ("evaluate", "classifier", model, planted, "--html", out / "new.html", "--json"),
        ("embed", planted, "-o", out / "vectors.npz", "--json"),
        ("audit", "groups", model, planted, "--column", "exif:camera", "--json",
         "--html", out / "groups.html"),
        ("audit", "groups", model, planted, "--column", "dicom:PatientName"),
        ("audit", "data", planted, "--html", out / "data.html", "--json"),
        ("audit", "data", planted, "--card", out / "card.md"),
        ("audit", "data", planted, "--strip", out / "clean", "--json"),
    )  # fmt: skip

    for call in calls:
        done = cli(*call)
        assert done.code == 0 or "PatientName" in str(call), f"{call}\n{done.err}"
        assert leaks((done.out + done.err).encode()) == [], call

    written = [*out.rglob("*"), *home.rglob("*"), *(planted / ".miniclip").rglob("*")]
    written = [path for path in written if path.is_file()]
    assert len(written) > 20
    assert {path.name: found for path in written if (found := leaks(path.read_bytes()))} == {}


def test_an_index_keeps_places_only_when_asked(cli: Cli, planted: Path) -> None:
    def found(*more: str) -> int:
        where = f"latitude between {DECIMAL[0] - 0.001} and {DECIMAL[0] + 0.001}"
        words = ("search", "thing", planted, "--where", where, "--min-confidence", "0", "--json")
        assert cli("index", planted, *more).code == 0
        return len(cli(*words, "--top", 50).json["hits"])

    assert found() == 0
    assert found("--places") == 0  # nothing is new
    assert found("--places", "--rebuild") == 24
    assert any(leaks(path.read_bytes()) for path in (planted / ".miniclip").iterdir())
    assert found("--rebuild") == 0


def test_the_check_would_see_a_leak(tmp_path: Path) -> None:
    assert leaks(f"x{PATIENT}".encode("utf-16-le")) == [PATIENT, "Hrdlicka", "Josefine"]
    assert leaks(str(DECIMAL[0]).encode()) == [f"{DECIMAL[0]:.4f}"[:-1]]
