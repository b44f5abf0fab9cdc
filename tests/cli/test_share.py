"""`miniclip share` of a bundle, and what verbs say to a model of images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miniclip.bundle import Bundle
from tests.cli.conftest import Cli
from tests.tiny_bundle import images_alone


def test_a_bundle_is_written_for_others(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    said = cli("share", "default", "-o", out, "--json").json
    again = cli("share", "default", "-o", out)
    assert said["output"] == str(out)
    assert set(said["files"]) >= {"README.md", "config.json", "onnx/model.onnx"}
    assert said["vision_text_dual_encoder"] is False
    assert said["reason"] is None
    assert again.code == 1
    assert "name a new directory" in again.err


def test_a_bundle_that_is_not_there_is_named(cli: Cli, tmp_path: Path) -> None:
    done = cli("share", "nothing", "-o", tmp_path / "shared")
    assert done.code == 1
    assert "no bundle 'nothing'" in done.err
    assert not (tmp_path / "shared").exists()


@pytest.fixture
def eyes(tmp_path: Path) -> Bundle:
    return images_alone(tmp_path / "eyes")


def test_a_model_of_images_alone_embeds_and_searches_by_example(
    cli: Cli, photos: Path, eyes: Bundle, tmp_path: Path
) -> None:
    model = ("--bundle", eyes.directory, "--json")
    out = tmp_path / "vectors.npz"
    assert cli("embed", photos, "-o", out, *model).json["embedding_dim"] == 12
    with np.load(out) as arrays:
        assert arrays["embeddings"].shape == (8, 12)
    found = cli("search", "--image", photos / "red.png", photos, *model)
    assert found.code == 0, found.err
    assert found.json["hits"][0]["path"] == str(photos / "red.png")
    assert cli("index", photos, *model).code == 0
    indexed = cli("search", "--image", photos / "red.png", photos, *model)
    assert indexed.json["hits"][0]["path"] == str(photos / "red.png")
    copies = cli("duplicates", photos, *model)
    assert copies.code == 0, copies.err


@pytest.mark.parametrize("verb", ["search", "classify", "match", "map"])
def test_verbs_with_words_say_that_it_takes_images_alone(
    verb: str, cli: Cli, photos: Path, eyes: Bundle, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("red\nblue\n")
    page = tmp_path / "map.html"
    words: dict[str, tuple[object, ...]] = {
        "search": ("a red square", photos),
        "classify": (photos, "--labels", "red,blue"),
        "match": (photos / "red.png", "--texts", texts),
        "map": (photos, "--html", page),
    }
    if verb == "map":
        cli("index", photos, "--bundle", eyes.directory)
    done = cli(verb, *words[verb], "--bundle", eyes.directory, "--json")
    assert (done.code, done.out) == (1, "")
    assert "tiny-images has no text tower" in done.err
    assert not page.exists()
