"""`miniclip pull` as it is typed: what it prints, where it writes, when it warns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.pull.tiny_layout import tiny_layout

pytest.importorskip("huggingface_hub")
SCALE = ("--logit-scale", 20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_layout(tmp_path / "colours")


def test_a_pulled_model_searches_like_any_other(
    cli: Cli, source: Path, photos: Path, home: Path
) -> None:
    pulled = cli("pull", source, *SCALE, "--json").json

    assert pulled["name"] == "colours"
    assert pulled["directory"] == str(home / "bundles" / "colours")
    assert (pulled["layout"], pulled["revision"]) == ("transformers.js", None)
    assert pulled["licence"] == "Apache-2.0"
    assert pulled["warnings"] == []
    assert pulled["logit_scale"] == 20.0
    assert pulled["parity"]["photos"] == 32
    assert pulled["parity"]["image_cosine_min"] == pytest.approx(1)

    found = cli(
        "search", "a green square", photos, "--bundle", "colours", "--top", 1, "--json"
    ).json
    assert Path(found["hits"][0]["path"]).name == "green.png"
    (card,) = [c for c in cli("models", "--json").json["bundles"] if c["name"] == "colours"]
    assert card["licence"] == "Apache-2.0"
    assert card["provenance"]["source"] == "colours"


def test_the_bundle_goes_where_it_is_told_to(cli: Cli, source: Path, tmp_path: Path) -> None:
    result = cli("pull", source, *SCALE, "-o", tmp_path / "mine")
    assert result.code == 0
    assert "mine" in result.out
    assert "licence     Apache-2.0" in result.out
    assert (tmp_path / "mine" / "model_card.md").read_text().startswith("---\nlicense")
    named = cli("pull", source, *SCALE, "-o", tmp_path / "other", "--name", "tiny", "--json").json
    assert named["name"] == "tiny"


def test_without_a_scale_the_cure_is_said(cli: Cli, source: Path, home: Path) -> None:
    result = cli("pull", source)
    assert result.code == 1
    assert "--logit-scale" in result.err
    assert not (home / "bundles" / "colours").exists()


def test_licences_are_warned_of(cli: Cli, source: Path) -> None:
    assert cli("pull", source, *SCALE, "--commercial-ok").err == ""

    (source / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    assert cli("pull", source, *SCALE).err == ""
    closed = cli("pull", source, *SCALE, "--commercial-ok", "--json")
    assert "forbids commercial use" in closed.err
    assert closed.json["warnings"] == ["the licence cc-by-nc-4.0 forbids commercial use"]
    assert closed.code == 0

    wrong = cli("pull", source, *SCALE, "--licence", "MIT")
    assert wrong.code == 1
    assert "the card says cc-by-nc-4.0" in wrong.err

    (source / "README.md").unlink()
    assert "states no licence" in cli("pull", source, *SCALE).err
    assert cli("pull", source, *SCALE, "--licence", "MIT", "--json").json["licence"] == "MIT"


def test_what_cannot_be_pulled_is_refused(cli: Cli, source: Path, tmp_path: Path) -> None:
    for words, message in (
        (("pull", tmp_path / "nowhere"), "there is no directory"),
        (("pull", source, *SCALE, "--precision", "int8"), "choose --precision float32"),
    ):
        result = cli(*words)
        assert result.code == 1
        assert message in result.err
    assert cli("pull", source, "--precision", "int4").code == 2


@pytest.mark.train
def test_a_checkpoint_is_converted(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.hub_checkpoints import checkpoint  # noqa: PLC0415

    source = checkpoint("clip", tmp_path / "my-clip")

    pulled = cli("pull", source, "--precision", "float16", "--licence", "MIT", "--json").json

    assert (pulled["name"], pulled["layout"]) == ("my-clip", "checkpoint")
    assert pulled["weights"] == {"image": "float16", "text": "float16"}
    assert (pulled["feature_dim"], pulled["licence"]) == (128, "MIT")
    refused = cli("pull", source, "--logit-scale", 3)
    assert refused.code == 1
    assert "a checkpoint holds its own" in refused.err


def test_a_checkpoint_needs_torch(cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for graph in (source / "onnx").iterdir():
        graph.unlink()
    (source / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr("miniclip.cli.output.TRAINING_MODULES", ("no_such_module",))
    result = cli("pull", source)
    assert result.code == 1
    assert "miniclip[train]" in result.err
