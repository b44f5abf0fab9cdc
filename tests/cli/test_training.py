"""`miniclip train`, `export` and `evaluate` in a row, on towers of a few kilobytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniclip.bundle import CARD_FILE, Bundle
from tests.cli.conftest import Cli

pytestmark = pytest.mark.train
pytest.importorskip("torch")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    from tests.train.tiny_run import write_recipe  # noqa: PLC0415 - needs torch

    return write_recipe(tmp_path)


def test_from_captions_to_a_bundle_that_is_measured(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    run, bundle, card = tmp_path / "run", tmp_path / "bundle", tmp_path / "card.md"
    card.write_text("# tiny\n", encoding="utf-8")

    trained = cli("train", recipe, "-o", run, "--set", "train.passes=1", "--json").json
    again = cli("train", recipe, "-o", run)
    exported = cli("export", run, "-o", bundle, "--card", card, "--json").json
    data = tmp_path / "data"
    words = ["--images", data / "images", "--captions", data / "captions.txt"]
    words += ["--split", data / "dev.txt", "--bundle", bundle]
    measured = cli("evaluate", "retrieval", *words, "--json").json

    assert trained["run"] == str(run)
    assert (again.code, again.out) == (1, "")
    assert "--resume" in again.err
    assert exported["output"] == str(bundle)
    opened = Bundle.open(bundle)
    assert opened.path(CARD_FILE).read_text(encoding="utf-8") == "# tiny\n"
    assert opened.manifest.provenance["recipe"] == "tiny"
    assert "weights_verdict" in opened.manifest.provenance
    assert measured["bundle"] == "tiny"
    for way in ("text_to_image", "image_to_text"):
        name = f"dev_{way}_recall@5"
        assert measured[way]["recall@5"] == pytest.approx(trained["scores"][name], abs=0.11)

    data.rename(tmp_path / "moved")  # without a dev split no smaller weights can be judged
    small = cli("export", run, "-o", bundle)
    full = cli("export", run, "-o", bundle, "--full-weights")
    assert (small.code, full.code) == (1, 0)
    assert "captions.txt" in small.err
    weights = dict(Bundle.open(bundle).manifest.weights)
    assert weights == {"image": "float32", "text": "float32"}


def test_what_is_no_recipe_and_no_run_is_refused(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    unknown = cli("train", recipe, "-o", tmp_path / "run", "--set", "train.foo=1", "--json")
    nothing = cli("export", tmp_path, "-o", tmp_path / "bundle", "--json")

    assert (unknown.code, unknown.out) == (1, "")
    assert "unknown key train.foo; did you mean" in unknown.err
    assert (nothing.code, nothing.out) == (1, "")
    assert "give the directory of a run" in nothing.err
