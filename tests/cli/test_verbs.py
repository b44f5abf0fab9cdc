"""The verbs other than `search`, each on the tiny bundle of colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miniclip.bundle import Bundle, installed_bundles
from miniclip.cli import output
from miniclip.datasets.formats import FORMATS
from tests.cli.conftest import Cli
from tests.tiny_bundle import COLOURS, D, F


def test_match_ranks_the_sentences_of_a_file(cli: Cli, photos: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a blue photo\na red photo\na green photo\n", encoding="utf-8")

    plain = cli("match", photos / "red.png", "--texts", texts)
    result = cli("match", photos / "red.png", "--texts", texts, "--top", 2, "--json").json

    assert plain.out.splitlines()[0].endswith("  a red photo")
    assert result["hits"][0]["text"] == "a red photo"
    assert len(result["hits"]) == 2
    assert set(result["hits"][0]) == {"text", "score"}


def test_match_refuses_a_bad_image_and_missing_texts(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    texts = tmp_path / "texts.txt"
    texts.write_text("a blue photo\n", encoding="utf-8")

    no_texts = cli("match", bad, "--texts", tmp_path / "none.txt", "--json")
    no_image = cli("match", bad, "--texts", texts, "--json")

    assert (no_texts.code, no_texts.out) == (1, "")
    assert "cannot read the texts file" in no_texts.err
    assert (no_image.code, no_image.out) == (1, "")
    assert f"error: {bad}: " in no_image.err


def test_classify_gives_probabilities_that_sum_to_1(cli: Cli, photos: Path) -> None:
    images = cli(
        "classify", photos / "red.png", photos / "blue.png", "--labels", "red,green,blue", "--json"
    ).json["images"]

    assert [Path(image["path"]).name for image in images] == ["red.png", "blue.png"]
    assert [image["labels"][0]["label"] for image in images] == ["red", "blue"]
    for image in images:
        shares = [label["probability"] for label in image["labels"]]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert shares == sorted(shares, reverse=True)


def test_a_label_alone_is_said_to_mean_nothing(cli: Cli, photos: Path) -> None:
    alone = cli("classify", photos / "red.png", "--labels", "blue", "--json")
    two = cli("classify", photos / "red.png", "--labels", "blue,red", "--json")
    assert alone.json["images"][0]["labels"] == [{"label": "blue", "probability": 1.0}]
    assert "warning: 'blue' is the only label and gets 100 % of every image" in alone.err
    assert two.err == ""


def test_names_are_shown_on_one_line_and_not_obeyed(cli: Cli, photos: Path, tmp_path: Path) -> None:
    """A file or a sentence may hold signs that end a line or colour a terminal."""
    (photos / "red.png").rename(photos / "r\x1b[31med\n.png")
    (tmp_path / "texts.txt").write_text("red \x1b[32m\nblue\n", "utf-8")
    said = cli("classify", photos, "--labels", "red,blue", "--top", 1)
    assert len(said.out.splitlines()) == len(COLOURS)
    fitting = cli("match", photos / "blue.png", "--texts", tmp_path / "texts.txt")
    refused = cli("classify", "\x1b[31mnowhere", "--labels", "red,blue")
    assert r"\x1b[31med\n.png: red" in said.out
    assert r"red \x1b[32m" in fitting.out
    assert r"\x1b[31mnowhere" in refused.err
    assert "\x1b" not in said.out + fitting.out + refused.err


def test_classify_reads_labels_and_templates_from_files(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    labels, templates = tmp_path / "labels.txt", tmp_path / "templates.txt"
    labels.write_text("cyan\nyellow\n", encoding="utf-8")
    templates.write_text("a {} square\nthe {} picture\n", encoding="utf-8")

    result = cli(
        "classify", photos / "yellow.png", "--labels", labels, "--templates", templates, "--top", 1
    )

    assert result.out.startswith(f"{photos}/yellow.png: yellow ")
    assert "cyan" not in result.out


def test_classify_refuses_a_template_without_a_slot(cli: Cli, photos: Path, tmp_path: Path) -> None:
    templates = tmp_path / "templates.txt"
    templates.write_text("a photo\n", encoding="utf-8")

    result = cli("classify", photos, "--labels", "red", "--templates", templates)

    assert result.code == 1
    assert "line 1" in result.err


@pytest.mark.parametrize("extra", [[], ["--features"]])
def test_embed_writes_the_same_vectors_with_and_without_features(
    cli: Cli, photos: Path, tmp_path: Path, extra: list[str]
) -> None:
    out = tmp_path / "v.npz"

    result = cli("embed", photos, "-o", out, "--json", *extra).json

    assert (result["count"], result["embedding_dim"]) == (len(COLOURS), D)
    with np.load(out, allow_pickle=False) as file:
        names = [Path(name).stem for name in file["ids"]]
        assert names == sorted(COLOURS)
        np.testing.assert_allclose(np.linalg.norm(file["embeddings"], axis=1), 1, atol=1e-6)
        red, blue = (file["embeddings"][names.index(name)] for name in ("red", "blue"))
        assert red[0] > 0 > blue[0]
        assert ("features" in file) == bool(extra)
        if extra:
            assert file["features"].shape == (len(COLOURS), F)


def test_embed_refuses_a_format_or_folder_that_is_not_there_before_it_looks_at_images(
    cli: Cli, tmp_path: Path
) -> None:
    result = cli("embed", tmp_path / "nowhere", "-o", tmp_path / "v.csv")

    assert result.code == 1
    assert "end its name with .npz or .parquet" in result.err
    result = cli("embed", tmp_path / "nowhere", "-o", tmp_path / "none" / "v.npz")
    assert (result.code, result.out) == (1, "")
    assert f"there is no folder {tmp_path}/none for v.npz" in result.err


def test_evaluate_retrieval_prints_both_directions(cli: Cli, photos: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    rows = [f"{name}.png,a {name} photo" for name in COLOURS]
    captions.write_text("\n".join(["image,caption", *rows, "gone.png,a photo"]), encoding="utf-8")
    words = ["evaluate", "retrieval", "--images", photos, "--captions", captions]

    plain, result = cli(*words), cli(*words, "--json")

    assert "text -> image" in plain.out
    for direction in ("text_to_image", "image_to_text"):
        scores = result.json[direction]
        assert scores["recall@1"] == 1.0
        assert {"recall@5", "recall@10", "median_rank", "mrr", "interval"} <= set(scores)
    assert "8 images, 8 texts" in result.json["protocol"]
    assert [entry["path"] for entry in result.json["skipped"]] == ["gone.png"]
    assert "warning: 1 of 9 images or rows were skipped:" in result.err
    assert cli(*words, "--strict").code == 1


def test_evaluate_retrieval_reads_columns_and_formats_that_the_user_names(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text("Foto,Satz\nred.png,a red photo\nblue.png,a blue photo\n", "utf-8")
    words = ["evaluate", "retrieval", "--images", photos, "--captions", captions, "--json"]
    columns = ["--image-column", "Foto", "--caption-column", "Satz"]

    assert "Name the columns" in cli(*words).err
    assert cli(*words, *columns).json["text_to_image"]["recall@1"] == 1.0
    assert cli(*words, *columns, "--format", "table").code == 0
    assert "no caption format 'xml'; choose one of" in cli(*words, "--format", "xml").err
    assert "not like name.jpg#0" in cli(*words, "--format", "flickr").err
    shown = " ".join(cli("evaluate", "retrieval", "--help").out.split())
    assert all(name in shown.partition("--format")[2] for name in FORMATS)


def test_evaluate_retrieval_takes_the_images_of_a_split(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    tokens, split = tmp_path / "Flickr8k.token.txt", tmp_path / "dev.txt"
    tokens.write_text(
        "".join(f"{name}.png#{n}\ta {name} photo\n" for name in COLOURS for n in range(5)), "utf-8"
    )
    split.write_text("red.png\nblue.png\ngone.png\n", "utf-8")
    words = ["--images", photos, "--captions", tokens, "--split", split]

    result = cli("evaluate", "retrieval", *words, "--json")

    assert result.json["protocol"].startswith("2 images, 10 texts, split dev, ")
    assert result.json["skipped"] == [
        {"path": "gone.png", "reason": f"in {split}, but without a caption in {tokens.name}"}
    ]
    assert "image -> text" in cli("evaluate", "retrieval", *words).out


def test_evaluate_zeroshot_reads_a_table_with_columns_that_the_user_names(
    cli: Cli, photos: Path
) -> None:
    table, labels = photos / "labels.csv", photos / "labels.txt"
    table.write_text("Foto,Klasse\nred.png,0\nblue.png,1\n", "utf-8")
    labels.write_text("red\nblue\n", "utf-8")
    words = ["evaluate", "zeroshot", "--data", table, "--labels", labels, "--json"]

    assert "does not name a column" in cli(*words).err
    columns = ["--image-column", "Foto", "--label-column", "Klasse"]
    assert cli(*words, *columns).json["per_class"] == {"red": 1.0, "blue": 1.0}


def test_evaluate_zeroshot_prints_accuracy_by_class(cli: Cli, tmp_path: Path) -> None:
    for name in ("red", "green", "blue"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20), COLOURS[name]).save(tmp_path / "data" / name / "1.png")
    words = ["evaluate", "zeroshot", "--data", tmp_path / "data"]

    result = cli(*words, "--json").json

    assert result["top1"] == 1.0
    assert result["per_class"] == {"blue": 1.0, "green": 1.0, "red": 1.0}
    assert "top5" in result
    assert "red" in cli(*words).out


@pytest.mark.parametrize(
    "words",
    [
        ["train", "recipe.toml", "-o", "run"],
        ["export", "run", "-o", "bundle"],
    ],
)
@pytest.mark.parametrize("missing", ["torch", "lightning", "onnxscript"])
def test_training_verbs_name_the_extra_when_a_part_of_it_is_missing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, words: list[str], missing: str
) -> None:
    monkeypatch.setattr(output, "find_spec", lambda module: None if module == missing else module)

    result = cli(*words)

    assert result.code == 1
    assert "pip install 'miniclip[train]'" in result.err


def test_models_lists_what_is_installed(
    cli: Cli, home: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = home / "bundles"
    shelf.mkdir(parents=True)
    (shelf / "tiny").symlink_to(tiny_bundle.directory, target_is_directory=True)

    cards: list[dict[str, Any]] = cli("models", "--json").json["bundles"]

    assert len(cards) == len(installed_bundles())
    (card,) = (card for card in cards if card["name"] == "tiny")
    assert (card["embedding_dim"], card["feature_dim"]) == (D, F)
    assert card["licence"] == "Apache-2.0"
    assert card["size_bytes"] > 1000
    assert "recipe      by hand" in cli("models").out


def test_an_unknown_bundle_is_named(cli: Cli, photos: Path) -> None:
    result = cli("search", "red", photos, "--bundle", "nonesuch")

    assert result.code == 1
    assert "no bundle 'nonesuch'" in result.err


def test_the_demo_finds_writes_and_counts(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    out = tmp_path / "demo"

    plain = cli("demo", "-o", out)
    result = cli("demo", "-o", out, "--json").json

    assert "of 10 right at rank 1" in plain.out
    assert len(list((out / "photos").iterdir())) == 20
    assert Path(result["html"]).is_file()
    assert len(result["sentences"]) == len(result["images"]) == 10
    assert result["sentences_right"] == sum(entry["right"] for entry in result["sentences"])
    assert json.dumps(result)


def test_a_home_of_nobody_and_a_name_too_long_are_named(
    cli: Cli, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in ("~nobody-of-that-name/x", "x" * 300):
        result = cli("search", "red", photos, "--bundle", bundle)

        assert result.code == 1
        assert f"no bundle '{bundle}'" in result.err
    monkeypatch.setenv("MINICLIP_HOME", "x" * 300)
    assert "error: cannot make the directory" in cli("search", "red", photos).err
