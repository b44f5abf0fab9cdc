"""`miniclip search` as its user sees it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Cli

SLOW_SEARCH = """
import sys, time
import miniclip
from miniclip.testing import FakeEncoder

encode, calls = FakeEncoder.encode_pixels, []
def slow(encoder, pixels):
    calls.append(len(pixels))
    if len(calls) > int(sys.argv[1]):
        print("stuck", flush=True)
        time.sleep(600)
    return encode(encoder, pixels)

FakeEncoder.encode_pixels = slow
miniclip.load_encoder = lambda bundle=None, runtime=None: FakeEncoder()
from miniclip.cli import main
main(sys.argv[2:])
"""


def test_a_sentence_finds_the_photo_of_its_colour(cli: Cli, photos: Path) -> None:
    result = cli("search", "a green square", photos, "--top", 3)

    assert result.code == 0
    assert result.err == ""
    first, *rest = result.out.splitlines()
    score, path = first.split(maxsplit=1)
    assert path == str(photos / "green.png")
    assert -1 <= float(score) <= 1
    assert len(rest) == 2


def test_json_is_one_object_and_the_second_search_embeds_nothing(cli: Cli, photos: Path) -> None:
    first = cli("search", "blue", photos, "--json").json
    second = cli("search", "blue", photos, "--json").json

    assert first["hits"][0]["path"] == str(photos / "blue.png")
    assert first["query"] == {"text": "blue"}
    assert (first["searched"], first["embedded"], first["skipped"]) == (8, 8, [])
    assert second == {**first, "embedded": 0}
    scores = [hit["score"] for hit in first["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_an_example_image_takes_the_place_of_the_sentence(cli: Cli, photos: Path) -> None:
    Image.new("RGB", (9, 9), (250, 5, 5)).save(photos.parent / "q.png")

    result = cli("search", "--image", photos.parent / "q.png", photos, "--json").json

    assert result["query"] == {"image": str(photos.parent / "q.png")}
    assert result["hits"][0]["path"] == str(photos / "red.png")


def test_several_folders_and_files_are_searched_together(cli: Cli, photos: Path) -> None:
    more = photos.parent / "more"
    more.mkdir()
    (photos / "green.png").rename(more / "lime.jpg")

    hits = cli("search", "green", photos, more, photos / "blue.png", "--json").json["hits"]

    assert hits[0]["path"] == str(more / "lime.jpg")
    assert len(hits) == 8, "a file named twice is one hit"


def test_a_file_that_is_no_image_in_place_of_a_folder_says_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")

    result = cli("search", "green", tmp_path / "notes.txt", "--json")

    assert (result.code, result.out) == (1, "")
    assert "notes.txt: not an image of a known format" in result.err


def test_the_page_is_written_and_named(cli: Cli, photos: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    result = cli("search", "red", photos, "--html", page)

    assert f"wrote {page}" in result.err
    assert "red.png" in page.read_text(encoding="utf-8")
    assert "miniclip search red" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [["a dog"], [], ["--image", "q.jpg"], ["  ", "photos"]])
def test_a_search_without_a_folder_or_a_sentence_is_a_usage_error(
    cli: Cli, words: list[str]
) -> None:
    result = cli("search", *words)

    assert (result.code, result.out) == (2, "")
    assert "name at least one folder" in result.err


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_bad_input_exits_with_1_and_says_what_and_the_cure(
    cli: Cli, tmp_path: Path, extra: list[str]
) -> None:
    missing = cli("search", "a dog", tmp_path / "nowhere", *extra)
    (tmp_path / "empty").mkdir()
    empty = cli("search", "a dog", tmp_path / "empty", *extra)

    assert (missing.code, missing.out) == (1, "")
    assert f"error: there is no file or folder {tmp_path}/nowhere; check" in missing.err
    assert (empty.code, empty.out) == (1, "")
    assert "there is no image below" in empty.err


def test_a_damaged_cache_is_named_with_the_cure(cli: Cli, photos: Path, home: Path) -> None:
    cache = home / "cache" / "vectors.sqlite3"
    cache.parent.mkdir(parents=True)
    cache.write_text("no database at all " * 100)

    result = cli("search", "red", photos)

    assert result.code == 1
    assert f"the cache {cache} is damaged" in result.err
    cache.unlink()
    assert cli("search", "red", photos).code == 0


def test_a_kill_in_the_middle_needs_no_repair_and_loses_no_stored_batch(tmp_path: Path) -> None:
    """The model hangs in its third batch, and the process dies there by SIGKILL."""
    photos = tmp_path / "many"
    photos.mkdir()
    for number in range(80):
        Image.new("RGB", (20 + number, 20), (220, 20, 20)).save(photos / f"{number:02}.png")

    def start(stuck_after: int) -> subprocess.Popen[str]:
        words = [str(stuck_after), "search", "a red thing", str(photos), "--json"]
        return subprocess.Popen(
            [sys.executable, "-c", SLOW_SEARCH, *words], stdout=subprocess.PIPE, text=True
        )

    killed = start(stuck_after=2)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "stuck\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    again = start(stuck_after=99)
    out, _ = again.communicate(timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert again.returncode == 0
    answer = json.loads(out)
    assert answer["searched"] == 80
    # The second batch may have been on its way to the disk: a kill loses that one at most.
    assert answer["embedded"] in {16, 48}


def test_an_interrupt_ends_with_130(tmp_path: Path, photos: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SEARCH, "0", "search", "red", str(photos)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_reader_that_goes_away_causes_no_noise(cli: Cli, photos: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "miniclip", "search", "red", str(photos)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert process.stderr.read() == ""
