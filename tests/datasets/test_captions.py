"""Captions in every text format: what is kept, in which order, and how bad rows are named."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from miniclip.datasets.captions import CaptionSet, read_captions
from miniclip.errors import ConfigError, DatasetError, MissingExtraError
from tests.datasets.photos import make_photos


def content(captions: CaptionSet) -> dict[str, tuple[str, ...]]:
    return {image.name: image.captions for image in captions.images}


def reasons(captions: CaptionSet) -> dict[str, str]:
    return {item.name: item.reason for item in captions.skipped}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg")


WANTED = {"b.jpg": ("a black dog, running", "two dogs"), "a.jpg": ('the "big" one',)}


def written_as(kind: str, folder: Path) -> Path:
    """Write the same three captions in one of the formats."""
    rows = [(name, caption) for name, captions in WANTED.items() for caption in captions]
    if kind == "flickr":
        text = "".join(f"{name}#{n}\t{caption}\n" for n, (name, caption) in enumerate(rows))
    elif kind == "kaggle":
        text = 'image,caption\nb.jpg,"a black dog, running"\nb.jpg,two dogs\n'
        text += 'a.jpg,"the ""big"" one"\n'
    elif kind == "unquoted commas":
        text = 'image,caption\nb.jpg,a black dog, running\nb.jpg,two dogs\na.jpg,the "big" one\n'
    elif kind == "flickr30k bars":
        text = "image_name| comment_number| comment\n"
        text += "".join(f"{name}| 0| {caption}\n" for name, caption in rows)
    elif kind == "tsv":
        text = "id\ttext\tfilepath\n"
        text += "".join(f"{n}\t{caption}\t{name}\n" for n, (name, caption) in enumerate(rows))
    elif kind == "jsonl":
        text = "".join(json.dumps({"image": n, "caption": c}) + "\n" for n, c in rows)
    elif kind == "jsonl lists":
        lines = [json.dumps({"file_name": n, "captions": list(c)}) for n, c in WANTED.items()]
        text = "\n\n".join(lines)
    elif kind == "json list":
        text = json.dumps([{"path": n, "text": c} for n, c in rows], indent=1)
    else:
        coco = {
            "info": {"year": 2014},
            "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
            "annotations": [
                {"id": n, "image_id": 3 if name == "b.jpg" else 7, "caption": caption}
                for n, (name, caption) in enumerate(rows)
            ],
        }
        text = json.dumps(coco, indent=None if kind == "coco" else 2)
    path = folder / "captions"  # no suffix: the content decides
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "format_name"),
    [
        ("flickr", "flickr"),
        ("kaggle", "table"),
        ("unquoted commas", "table"),
        ("flickr30k bars", "table"),
        ("tsv", "table"),
        ("jsonl", "jsonl"),
        ("jsonl lists", "jsonl"),
        ("json list", "jsonl"),
        ("coco", "coco"),
        ("coco, pretty", "coco"),
    ],
)
def test_the_same_captions_come_out_of_every_format(
    tmp_path: Path, photos: Path, kind: str, format_name: str
) -> None:
    captions = read_captions(written_as(kind, tmp_path), photos)
    assert content(captions) == WANTED
    assert list(content(captions)) == ["b.jpg", "a.jpg"]  # first appearance
    assert captions.format == format_name
    assert captions.skipped == ()
    assert captions.images[0].source.path == photos / "b.jpg"
    assert captions.texts == ("a black dog, running", "two dogs", 'the "big" one')
    assert captions.image_of_text.tolist() == [0, 0, 1]


def test_a_split_chooses_images_and_their_order(tmp_path: Path, photos: Path) -> None:
    split = tmp_path / "Flickr_8k.devImages.txt"
    split.write_text("a.jpg\r\nb.jpg\r\nz.jpg\r\na.jpg\r\n")
    captions = read_captions(written_as("flickr", tmp_path), photos, split)
    assert captions.name == "Flickr_8k.devImages"
    assert list(content(captions)) == ["a.jpg", "b.jpg"]
    assert "without a caption" in reasons(captions)["z.jpg"]
    assert "listed twice" in reasons(captions)["a.jpg"]


def test_images_are_looked_for_beside_the_captions_when_no_folder_is_given(tmp_path: Path) -> None:
    make_photos(tmp_path, "a.jpg", "b.jpg")
    assert content(read_captions(written_as("flickr", tmp_path))) == WANTED


def test_bad_lines_of_a_token_file_cost_themselves_only(tmp_path: Path, photos: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_bytes(
        b"\xef\xbb\xbfa.jpg#0\t  Two   dogs \t play . \r\n"
        b"no mark in this line\n"
        b"\n"
        b"b.jpg#0\t   \n"
        b"b.jpg#1\tcaf\xe9\n"
        b"gone.jpg#0\tnot here\n"
        b"gone.jpg#1\tnot here either\n"
        b"c.jpg#0\tGr\xc3\xbc\xc3\x9fe"
    )
    captions = read_captions(tokens, photos)
    assert content(captions) == {"a.jpg": ("Two dogs play .",), "c.jpg": ("Grüße",)}
    assert reasons(captions) == {
        "tokens.txt line 2": "not like name.jpg#0<TAB>caption: 'no mark in this line'",
        "tokens.txt line 4": "empty caption for b.jpg",
        "tokens.txt line 5": "not UTF-8 text (invalid continuation byte)",
        "gone.jpg": f"no such image file in {photos}",
    }


def test_a_broken_first_line_does_not_hide_the_format(tmp_path: Path, photos: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("# my captions\na.jpg#0\ta dog\n")
    assert content(read_captions(tokens, photos)) == {"a.jpg": ("a dog",)}
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"image": "a.jpg", "capt\n{"image": "b.jpg", "caption": "a dog"}\n')
    captions = read_captions(lines, photos)
    assert content(captions) == {"b.jpg": ("a dog",)}
    assert "broken JSON" in reasons(captions)["lines.jsonl line 1"]


def test_an_unclosed_quote_does_not_swallow_the_rows_after_it(tmp_path: Path, photos: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(
        "image,caption\n"
        'a.jpg,"look out\n'
        "b.jpg,two dogs\n"
        'b.jpg,"a dog, a cat"\n'
        'c.jpg,"one caption\nover two lines"\n'
        'c.jpg,"really" big\n'
        "c.jpg\n"
    )
    captions = read_captions(table, photos)
    assert content(captions) == {
        "b.jpg": ("two dogs", "a dog, a cat"),
        "c.jpg": ("one caption over two lines", '"really" big'),
    }
    assert "not closed" in reasons(captions)["captions.csv line 2"]
    assert reasons(captions)["captions.csv line 8"] == "1 fields where the header has 2"


def test_an_unclosed_quote_far_from_the_end_and_at_the_end(tmp_path: Path, photos: Path) -> None:
    table = tmp_path / "captions.csv"
    rows = "".join(f"a.jpg,caption {n}\n" for n in range(200))
    table.write_text('image,caption\nb.jpg,"open\n' + rows + 'c.jpg,"open')
    captions = read_captions(table, photos)
    assert {name: len(texts) for name, texts in content(captions).items()} == {"a.jpg": 200}
    assert set(reasons(captions)) == {"captions.csv line 2", "captions.csv line 203"}


def test_columns_with_names_of_their_own(tmp_path: Path, photos: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("caption,Foto,Satz\nignored,a.jpg,ein Hund\n")
    captions = read_captions(table, photos, image_column="Foto", caption_column="Satz")
    assert content(captions) == {"a.jpg": ("ein Hund",)}
    with pytest.raises(DatasetError, match="Name the columns"):
        read_captions(table, photos)
    lines = tmp_path / "mine.jsonl"
    lines.write_text('{"Foto": "a.jpg", "Satz": ["ein Hund", 5]}')
    captions = read_captions(lines, photos, image_column="Foto", caption_column="Satz")
    assert content(captions) == {"a.jpg": ("ein Hund",)}
    assert reasons(captions) == {"mine.jsonl line 1": "the caption is not text: 5"}


def test_hostile_records_are_named_not_raised(tmp_path: Path, photos: Path) -> None:
    lines = tmp_path / "x.jsonl"
    hostile = ["[1]", "null", '{"image": 5, "caption": "x"}', '{"image": "a.jpg"}', "{" * 5]
    hostile += ['{"image": "a.jpg", "captions": []}', '{"image": "\\u0000", "caption": "nul"}']
    hostile += ["[" * 100_000]
    good = '{"image": "b.jpg", "caption": "good"}'
    lines.write_text("\n".join([good, *hostile]))
    captions = read_captions(lines, photos)
    assert content(captions) == {"b.jpg": ("good",)}
    assert len(captions.skipped) == len(hostile)


def test_coco_annotations_without_an_image_or_text(tmp_path: Path, photos: Path) -> None:
    file = tmp_path / "coco.json"
    annotations = [
        {"image_id": 1, "caption": "good"},
        {"image_id": 99, "caption": "whose?"},
        {"image_id": 1, "caption": None},
        {"image_id": [1], "caption": "x"},
        "text",
    ]
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": [2], "file_name": "b.jpg"}, 4]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    captions = read_captions(file, photos)
    assert content(captions) == {"a.jpg": ("good",)}
    assert list(reasons(captions)) == [f"coco.json annotation {n}" for n in (2, 3, 4, 5)]
    assert reasons(captions)["coco.json annotation 2"] == "no image with id 99"


def test_an_unknown_format_lists_what_was_tried(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Dear diary\n")
    with pytest.raises(DatasetError, match=r"'Dear diary'.*webdataset.*parquet.*coco.*flickr"):
        read_captions(file)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DatasetError, match="no caption format"):
        read_captions(tmp_path / "empty.txt")


def test_a_format_can_be_forced(tmp_path: Path, photos: Path) -> None:
    file = written_as("flickr", tmp_path)
    assert content(read_captions(file, photos, format="flickr")) == WANTED
    with pytest.raises(DatasetError, match=r"nothing usable .* broken JSON"):
        read_captions(file, photos, format="jsonl")
    with pytest.raises(DatasetError, match="broken JSON"):
        read_captions(file, photos, format="coco")
    with pytest.raises(DatasetError, match="does not name a column image"):
        read_captions(file, photos, format="table")
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read_captions(file, photos, format="parquet")
    with pytest.raises(ConfigError, match="choose one of webdataset, parquet"):
        read_captions(file, photos, format="xml")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read .*none\.txt: No such file"):
        read_captions(tmp_path / "none.txt")
    tokens = written_as("flickr", make_photos(tmp_path, "a.jpg", "b.jpg"))
    with pytest.raises(DatasetError, match=r"cannot read .*split\.txt"):
        read_captions(tokens, split=tmp_path / "split.txt")


def test_nothing_usable_says_where_it_looked(tmp_path: Path) -> None:
    empty = tmp_path / "wrong"
    empty.mkdir()
    with pytest.raises(
        DatasetError, match=r"2 skipped, first: b\.jpg: no such image file in .*wrong"
    ):
        read_captions(written_as("flickr", tmp_path), empty)


def test_parquet_with_text_and_with_lists(tmp_path: Path, photos: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "data"
    table = {
        "image": ["b.jpg", "a.jpg", None, "c.jpg"],
        "captions": [["a black dog, running", "two dogs"], ['the "big" one'], ["x"], None],
    }
    parquet.write_table(pa.table(table), file)
    captions = read_captions(file, photos)
    assert (captions.format, content(captions)) == ("parquet", WANTED)
    assert list(reasons(captions)) == ["data row 3", "data row 4"]
    with pytest.raises(DatasetError, match="has the columns image, captions"):
        read_captions(file, photos, caption_column="sentence")


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x").write_bytes(b"PAR1....")
    with pytest.raises(MissingExtraError, match=r"Parquet captions needs .*miniclip\[parquet\]"):
        read_captions(tmp_path / "x")
