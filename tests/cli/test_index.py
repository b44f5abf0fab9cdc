"""`miniclip index` as its user sees it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from miniclip.bundle import Bundle
from miniclip.collection import Index
from tests.cli.conftest import Cli


def test_the_first_call_indexes_and_the_next_has_nothing_to_do(cli: Cli, photos: Path) -> None:
    first = cli("index", photos)
    second = cli("index", photos, "--json").json

    assert first.code == 0
    assert first.out.startswith("8 images in the index (8 added); 8 embedded in ")
    assert f"index: {photos / '.miniclip'}" in first.out
    assert first.err == ""
    assert (second["images"], second["unchanged"], second["embedded"]) == (8, 8, 0)
    assert second["index"] == str(photos / ".miniclip")
    assert second["bundle"] == "tiny"


def test_json_counts_what_happened(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    (photos / "red.png").rename(photos / "rouge.png")
    shutil.copy(photos / "blue.png", photos / "azul.png")
    (photos / "green.png").unlink()
    (photos / "bad.png").write_text("no image")

    result = cli("index", photos, "--json")

    found = result.json
    assert result.code == 0
    assert {key: found[key] for key in ("added", "moved", "deleted", "unchanged", "embedded")} == {
        "added": 1,
        "moved": 1,
        "deleted": 1,
        "unchanged": 6,
        "embedded": 0,
    }
    assert found["skipped"][0]["path"] == str(photos / "bad.png")
    assert "1 of 9 images were skipped" in result.err
    assert cli("index", photos, "--strict").code == 1


def test_an_emptied_folder_is_refused_until_it_is_pruned(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    for path in photos.glob("*.png"):
        path.unlink()

    refused = cli("index", photos)

    assert refused.code == 1
    assert "is empty, but the index knows 8 images there" in refused.err
    assert "--prune" in refused.err
    pruned = cli("index", photos, "--prune", "--json").json
    assert (pruned["images"], pruned["pruned"]) == (0, 8)


def test_a_folder_without_images_is_worth_a_word(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    result = cli("index", tmp_path / "empty")

    assert result.code == 0
    assert "there is no image below" in result.err


def test_patterns_place_and_captions_are_taken(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("image,caption\nblue.png,a blue photo\n")
    words = ["--index", tmp_path / "here", "--ignore", "red.png", "--ignore", "g*"]

    found = cli("index", photos, *words, "--captions", tmp_path / "captions.csv", "--json").json

    assert (found["images"], found["captions"]) == (6, 1)
    assert found["index"] == str(tmp_path / "here")
    again = cli("index", "--index", tmp_path / "here", "--json").json
    assert (again["images"], again["unchanged"]) == (8, 6)


def test_a_damaged_index_is_rebuilt(cli: Cli, photos: Path) -> None:
    cli("index", photos)
    (photos / ".miniclip" / "index.sqlite3").write_bytes(b"nonsense" * 1000)

    damaged = cli("index", photos)

    assert damaged.code == 1
    assert "--rebuild" in damaged.err
    assert cli("index", photos, "--rebuild", "--json").json["added"] == 8


@pytest.mark.parametrize("words", [[], [".", "--watch", "--json"]])
def test_misuse_exits_with_2(cli: Cli, words: list[str]) -> None:
    assert cli("index", *words).code == 2


def test_watching_follows_the_folder_until_ctrl_c(
    photos: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip("watchfiles")
    words = [sys.executable, "-m", "miniclip", "index", str(photos), "--watch"]
    environment = {**os.environ, "MINICLIP_BUNDLE": str(tiny_bundle.directory)}
    watcher = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None
    assert watcher.stderr is not None
    try:
        assert "8 images" in watcher.stdout.readline()
        assert watcher.stdout.readline().startswith("index: ")
        assert "watching" in watcher.stderr.readline()
        time.sleep(1)  # until the system watches
        (photos / "red.png").rename(photos / "rouge.png")
        assert "1 moved" in watcher.stdout.readline()
        with Index.open(photos) as index:
            assert photos / "rouge.png" in {Path(record.path) for record in index}
    finally:
        watcher.send_signal(signal.SIGINT)
        _, rest = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    assert rest == ""
