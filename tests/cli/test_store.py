"""--store and copy, as their users see them: the same answers from wherever the index lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli

pytest.importorskip("milvus_lite")


def test_every_verb_answers_the_same_from_milvus(cli: Cli, photos: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\ngreen.png,a green square\nred.png,a red square\n")
    store = f"milvus:{tmp_path / 'photos.db'}"
    assert cli("index", photos, "--captions", captions).code == 0

    assert cli("index", photos, "--captions", captions, "--store", store).code == 0
    assert cli("index", "--store", store, "--json").json["unchanged"] == 8
    # Equal images come in the order in which they were indexed: let that be the same.
    assert cli("copy", photos, store, "--rebuild").code == 0
    for command in (
        ("search", "red", "--min-confidence", "0", "--where", "path like '%E_.PNG' and width > 1"),
        ("search", "--image", photos / "red.png", "--near-duplicates"),
        ("search", "square", "--by", "both"),
        ("match", photos / "red.png"),
        ("duplicates",),
    ):
        here = cli(*command, "--index", photos / ".miniclip", "--json").json
        there = cli(*command, "--store", store, "--json").json
        assert there.pop("index") == store
        del here["index"]
        assert there == here
    page = tmp_path / "map.html"
    assert cli("map", "--store", store, "--html", page).code == 0
    assert page.exists()


def test_copy_says_what_arrived_and_replaces_only_when_told(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    store = f"milvus:{tmp_path / 'photos.db'}#mine"
    assert cli("index", photos).code == 0

    first = cli("copy", photos, store, "--json").json
    refused = cli("copy", photos, store)
    back = cli("copy", store, tmp_path / "back", "--json").json

    assert (first["source"], first["target"]) == (str(photos / ".miniclip"), store)
    assert back["checksum"] == first["checksum"]
    assert refused.code == 1
    assert "--rebuild" in refused.err
    assert "checksum" in cli("copy", photos, store, "--rebuild").out


def test_an_index_and_a_store_at_once_are_too_many(cli: Cli, tmp_path: Path) -> None:
    shown = cli("search", "red", "--index", tmp_path, "--store", "milvus:x.db")

    assert shown.code == 2
    assert "not both" in shown.err
