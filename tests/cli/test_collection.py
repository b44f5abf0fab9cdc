"""search on an index, match, duplicates and map, as their users see them."""

from __future__ import annotations

import csv
import os
from io import StringIO
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Cli

HOSTILE = (
    "new\nline.png",
    "quo'te\".png",
    "red\x1b[31m.png",
    "right\u202eto left.png",
    "semi;colon -- drop table.png",
    "percent%_like.png",
    "-dash.png",
    "<script src=x onload=alert(1)>.png",
    os.fsdecode(b"bytes \xff\xfe.png"),
)


@pytest.fixture
def indexed(cli: Cli, photos: Path) -> Path:
    """Index the photos of colours, with two dates, a subfolder, and captions."""
    (photos / "more").mkdir()
    (photos / "white.png").rename(photos / "more" / "white.png")
    for name, date, model in (("red", "2023:05:01", "Nikon D5"), ("blue", "2024:06:01", "EOS")):
        image = Image.open(photos / f"{name}.png")
        exif = Image.Exif()
        exif[0x0110] = model
        exif.get_ifd(0x8769)[0x9003] = f"{date} 10:00:00"
        image.save(photos / f"{name}.jpg", exif=exif, quality=95)
        (photos / f"{name}.png").unlink()
    captions = photos.parent / "captions.csv"
    captions.write_text("image,caption\ngreen.png,a green square\nred.jpg,a red <b>square</b>\n")
    assert cli("index", photos, "--captions", captions).code == 0
    return photos


def names(found: object) -> list[str]:
    assert isinstance(found, dict)
    return [Path(hit["path"]).name for hit in found["hits"]]


def test_search_uses_the_index_that_covers_a_folder(cli: Cli, indexed: Path) -> None:
    whole = cli("search", "red", indexed, "--json", "--min-confidence", 0).json
    part = cli("search", "red", indexed / "more", "--json", "--min-confidence", 0).json

    assert whole["index"] == part["index"] == str(indexed / ".miniclip")
    assert (whole["searched"], whole["embedded"]) == (8, 0)
    assert names(whole)[0] == "red.jpg"
    assert names(part) == ["white.png"]
    assert all(0 <= hit["confidence"] <= 1 for hit in whole["hits"])


def test_a_folder_that_no_index_knows_is_no_empty_answer(cli: Cli, indexed: Path) -> None:
    """A slip of the pen below an indexed folder ends as it does without an index."""
    (indexed / "bare").mkdir()
    for verb in (["search", "red"], ["duplicates"], ["map"]):
        missing = cli(*verb, indexed / "mroe")
        assert (missing.code, missing.out) == (1, "")
        assert f"no file or folder {indexed / 'mroe'}" in missing.err
    beside = cli("search", "red", indexed, indexed / "mroe")
    assert (beside.code, beside.out) == (1, "")
    bare = cli("search", "red", indexed / "bare")
    assert bare.code == 1
    assert f"holds no image of {indexed / 'bare'}; bring it in step with" in bare.err
    # What the index knows may be away, on a drive that is not mounted.
    (indexed / "more").rename(indexed.parent / "away")
    assert names(cli("search", "red", indexed / "more", "--json", "--min-confidence", 0).json)


def test_paths_are_written_as_their_folder_was(
    cli: Cli, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed.parent)

    result = cli("search", "red", "photos", "--json", "--min-confidence", 0).json

    assert result["hits"][0]["path"] == "photos/red.jpg"
    page = cli("search", "red", "photos", "--top", 1, "--html", "page.html", "--min-confidence", 0)
    html = Path("page.html").read_text("utf-8")
    assert page.out.endswith("  photos/red.jpg\n")
    assert "<figcaption>photos/red.jpg " in html
    assert "The best image, with" in html


def test_an_index_may_be_named_and_one_of_another_model_is_passed_over(
    cli: Cli, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = cli("search", "red", "--index", indexed / ".miniclip", "--json").json
    monkeypatch.delenv("MINICLIP_BUNDLE")
    other = cli("search", "red", "--index", tmp_path, "--json")

    assert names(named)[0] == "red.jpg"
    assert (other.code, other.out) == (1, "")
    assert "there is no index" in other.err


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--where", "taken >= 2024"], {"blue.jpg"}),
        (["--where", "camera like '%nikon%'"], {"red.jpg"}),
        (["--after", "2023", "--before", "2023-05-01"], {"red.jpg"}),
        (["--where", "caption like '%square%'"], {"red.jpg", "green.png"}),
        (["--after", "2024", "--where", "taken < 2024"], set()),
    ],
)
def test_conditions_choose_images(
    cli: Cli, indexed: Path, options: list[str], found: set[str]
) -> None:
    result = cli("search", "red", indexed, *options, "--min-confidence", 0, "--json").json

    assert set(names(result)) == found


def test_a_folder_is_a_condition_too(cli: Cli, indexed: Path) -> None:
    words = ["search", "red", indexed, "--min-confidence", 0, "--json", "--folder"]

    assert names(cli(*words, indexed / "more").json) == ["white.png"]
    assert len(names(cli(*words, indexed).json)) == 8


@pytest.mark.parametrize(
    "condition", ["1=1; drop table images", "camera = 'x' or 1=1", "path like '%", "nonsense = 3"]
)
def test_sql_in_a_condition_is_refused_at_its_place(
    cli: Cli, indexed: Path, condition: str
) -> None:
    result = cli("search", "red", indexed, "--where", condition, "--json")

    assert (result.code, result.out) == (1, "")
    assert "error: --where, character " in result.err
    assert "^" in result.err
    assert len(names(cli("search", "red", indexed, "--json", "--min-confidence", 0).json)) == 8


def test_pages_follow_one_another(cli: Cli, indexed: Path) -> None:
    words = ["search", "red", indexed, "--top", 3, "--min-confidence", 0, "--json"]
    pages = [cli(*words, "--page", number).json for number in (1, 2, 3, 4)]

    assert [len(names(page)) for page in pages] == [3, 3, 2, 0]
    assert [page["more"] for page in pages] == [True, True, False, False]
    assert len({name for page in pages for name in names(page)}) == 8


def test_nothing_matches_is_an_answer(cli: Cli, indexed: Path) -> None:
    plain = cli("search", "red", indexed, "--min-confidence", 1)
    result = cli("search", "red", indexed, "--min-confidence", 1, "--json").json

    assert (plain.code, plain.out) == (0, "")
    assert f"nothing here matches; the closest is {indexed}/red.jpg (confidence " in plain.err
    assert result["hits"] == []
    assert Path(result["closest"]["path"]).name == "red.jpg"


def test_the_only_figure_of_a_line_is_the_one_that_ranks(cli: Cli, indexed: Path) -> None:
    sure = cli("search", "red", indexed)
    all_of_them = cli("search", "red", indexed, "--min-confidence", 0)

    lines = [line.split() for line in all_of_them.out.splitlines()]
    scores = [float(score) for score, *_ in lines]
    marked = {Path(path).name for _, *mark, path in lines if mark == ["?"]}
    assert scores == sorted(scores, reverse=True)
    assert "%" not in sure.out + all_of_them.out
    assert all(len(line.split()) == 2 for line in sure.out.splitlines())
    assert "blue.jpg" in marked
    assert "red.jpg" not in marked
    assert "? marks images that most likely show something else" in all_of_them.err
    assert "? marks" not in sure.err


def test_words_of_captions_and_names_rank_too(cli: Cli, indexed: Path) -> None:
    text = cli("search", "magenta", indexed, "--by", "text", "--json").json
    both = cli("search", "green square", indexed, "--by", "both", "--json").json

    assert names(text) == ["magenta.png"]
    assert names(both)[0] == "green.png"


def test_sentences_and_images_join_with_weights(cli: Cli, indexed: Path) -> None:
    words = ["search", "red:0.5", indexed, "--image", f"{indexed}/blue.jpg:3"]
    result = cli(*words, "--image", f"{indexed}/green.png", "--json", "--min-confidence", 0).json

    assert names(result)[0] in ("blue.jpg", "cyan.png")
    assert result["query"]["images"] == [f"{indexed}/blue.jpg:3", f"{indexed}/green.png"]


def test_copies_fold_into_one_hit(cli: Cli, indexed: Path) -> None:
    (indexed / "red copy.jpg").write_bytes((indexed / "red.jpg").read_bytes())
    cli("index", indexed)

    words = ["search", "red", indexed, "--min-confidence", 0, "--near-duplicates"]
    hits = cli(*words, "--json").json["hits"]

    assert len(hits) == 8
    assert sorted(Path(path).name for path in (hits[0]["path"], *hits[0]["alike"])) == [
        "red copy.jpg",
        "red.jpg",
    ]
    assert cli(*words, "--top", 1).out.splitlines()[1].strip().startswith("= ")


def test_a_table_is_one_that_other_programs_read(cli: Cli, indexed: Path) -> None:
    result = cli("search", "red", indexed, "--csv", "--min-confidence", 0)

    rows = list(csv.DictReader(StringIO(result.out)))
    assert len(rows) == 8
    assert rows[0]["path"] == str(indexed / "red.jpg")
    assert 0 <= float(rows[0]["confidence"]) <= 1
    assert cli("search", "red", indexed, "--csv", "--json").code == 2


@pytest.mark.parametrize("options", [["--where", "width > 1"], ["--folder", "x"], ["--by", "text"]])
def test_what_needs_an_index_says_so(cli: Cli, photos: Path, options: list[str]) -> None:
    result = cli("search", "red", photos, *options)

    assert (result.code, result.out) == (1, "")
    assert "make one with: miniclip index FOLDER" in result.err


def test_the_best_image_or_the_page_is_opened(
    cli: Cli, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)

    cli("search", "red", indexed, "--open", "--min-confidence", 0)
    cli("search", "red", indexed, "--open", "--html", tmp_path / "page.html")
    nothing = cli("search", "red", indexed, "--open", "--min-confidence", 1)

    assert opened == [str(indexed / "red.jpg"), str(tmp_path / "page.html")]
    assert "there is no image to open" in nothing.err


def test_match_finds_captions_of_the_index(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    inside = cli("match", indexed / "red.jpg", "--json").json
    Image.new("RGB", (9, 9), (5, 250, 5)).save(tmp_path / "q.png")
    outside = cli("match", tmp_path / "q.png", indexed, "--top", 1)
    nowhere = cli("match", tmp_path / "q.png")

    assert [hit["text"] for hit in inside["hits"]] == ["a red <b>square</b>", "a green square"]
    assert outside.out.endswith("  a green square\n")
    assert nowhere.code == 1
    assert "no index covers" in nowhere.err
    assert "or give sentences with --texts FILE" in nowhere.err
    assert "--texts" in cli("match", "--help").out


def test_match_says_when_an_index_has_no_captions(cli: Cli, photos: Path) -> None:
    cli("index", photos)

    result = cli("match", photos / "red.png")

    assert result.code == 1
    assert "holds no captions; attach some with: miniclip index" in result.err


def test_duplicates_are_grouped_and_nothing_is_deleted(
    cli: Cli, indexed: Path, tmp_path: Path
) -> None:
    (indexed / "copy of red.jpg").write_bytes((indexed / "red.jpg").read_bytes())
    cli("index", indexed)

    result = cli("duplicates", indexed, "--json", "--html", tmp_path / "d.html").json
    plain = cli("duplicates", indexed)

    (group,) = result["groups"]
    pair = [Path(image["path"]).name for image in (group["keep"], *group["copies"])]
    assert sorted(pair) == ["copy of red.jpg", "red.jpg"]
    assert result["wasted_bytes"] == (indexed / "red.jpg").stat().st_size
    assert [line[:4] for line in plain.out.splitlines()] == ["keep", "copy", ""]
    assert "1 copies in 1 groups among 9 images" in plain.err
    assert (indexed / "red.jpg").exists()
    assert "copy of red.jpg" in (tmp_path / "d.html").read_text("utf-8")


def test_a_map_is_one_page(cli: Cli, indexed: Path, tmp_path: Path) -> None:
    page = tmp_path / "map.html"

    result = cli("map", indexed, "--html", page, "--json").json
    part = cli("map", indexed, "--html", page, "--where", "taken is not null", "--json").json

    assert (result["images"], result["total"]) == (8, 8)
    assert (part["images"], part["html"]) == (2, str(page))
    assert "blue.jpg" in page.read_text("utf-8")
    none = cli("map", indexed, "--html", page, "--where", "width > 5000")
    assert (none.code, "no image to draw" in none.err) == (1, True)


@pytest.mark.parametrize("verb", ["duplicates", "map"])
def test_both_need_an_index_and_say_how_to_make_one(cli: Cli, photos: Path, verb: str) -> None:
    none, unnamed = cli(verb, photos), cli(verb)

    assert none.code == 1
    assert "make one with: miniclip index FOLDER" in none.err
    assert unnamed.code == 2


@pytest.fixture
def hostile(cli: Cli, tmp_path: Path) -> Path:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for number, name in enumerate(HOSTILE):
        Image.new("RGB", (20 + number, 20), (250, 5 * number, 5)).save(folder / name)
    assert cli("index", folder).code == 0
    return folder


def test_hostile_names_are_found_and_shown(cli: Cli, hostile: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    found = cli(
        "search", "red", hostile, "--json", "--html", page, "--min-confidence", 0, "--top", 99
    ).json
    lines = cli("search", "red", hostile, "--min-confidence", 0, "--csv")
    cli("map", hostile, "--html", tmp_path / "map.html")
    cli("duplicates", hostile, "--html", tmp_path / "d.html", "--similar", 0.5)

    shown = cli("search", "red", hostile, "--min-confidence", 0, "--top", 99)
    groups = cli("duplicates", hostile, "--similar", 0.5)

    assert sorted(names(found)) == sorted(HOSTILE)
    assert len(shown.out.splitlines()) == len(HOSTILE)
    assert r"new\nline.png" in shown.out
    assert r"red\x1b[31m.png" in shown.out
    assert len(groups.out.strip().splitlines()) == len(HOSTILE)
    assert "\x1b" not in shown.out + groups.out
    assert len(list(csv.reader(StringIO(lines.out)))) == 1 + len(HOSTILE)
    for written in (page, tmp_path / "map.html", tmp_path / "d.html"):
        assert "<script src" not in written.read_text("utf-8")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_value_like_any_other(cli: Cli, hostile: Path, name: str) -> None:
    quoted = name.replace("'", "''")

    result = cli(
        "search", "red", hostile, "--where", f"path = '{quoted}'", "--json", "--min-confidence", 0
    ).json

    assert names(result) == [name]
