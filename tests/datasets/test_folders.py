"""Class folders and label tables: order, names for prompts, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from miniclip.datasets.folders import read_labelled
from miniclip.errors import ConfigError, DatasetError
from tests.datasets.photos import make_photos


def test_a_folder_per_class_in_order_of_names(tmp_path: Path) -> None:
    data = make_photos(
        tmp_path / "animals",
        "polar_bear/2.PNG",
        "polar_bear/1.jpg",
        "cat/x/deep.jpeg",
        "cat/a.webp",
    )
    make_photos(data, ".hidden/a.jpg", "cat/.hidden.jpg")
    (data / "cat" / "notes.txt").write_text("no image")
    (data / "readme.md").write_text("no class")
    labelled = read_labelled(data)
    assert labelled.name == "animals"
    assert labelled.classes == ("cat", "polar bear")
    assert [source.name for source in labelled.sources] == [
        "cat/a.webp",
        "cat/x/deep.jpeg",
        "polar_bear/1.jpg",
        "polar_bear/2.PNG",
    ]
    assert labelled.labels.tolist() == [0, 0, 1, 1]
    assert labelled.sources[0].path == data / "cat" / "a.webp"
    assert len(labelled) == 4


@pytest.mark.parametrize("separator", ["\t", "=", ",", " = ", ": ", " "])
def test_a_labels_file_gives_the_names_for_prompts(tmp_path: Path, separator: str) -> None:
    data = make_photos(tmp_path / "d", "n01440764/a.jpg", "n01443537/a.jpg")
    names = tmp_path / "names.txt"
    names.write_text(
        f"n99999999{separator}not in this folder\n"
        f"n01443537{separator}goldfish, Carassius auratus\n"
        f"n01440764{separator}tench\n"
    )
    assert read_labelled(data, names).classes == ("tench", "goldfish, Carassius auratus")


def test_a_labels_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "d", "n1/a.jpg", "n2/a.jpg")
    names = tmp_path / "names.txt"
    names.write_text("n1=tench\nn3=goldfish\n")
    with pytest.raises(DatasetError, match="1 of 2 classes; missing: n2; add a line `n2=name`"):
        read_labelled(data, names)
    names.write_text("n1=crane\nn2=cat\nn1=bird\n")
    with pytest.raises(DatasetError, match="line 3: 'n1' is called 'crane' and 'bird'"):
        read_labelled(data, names)
    names.write_bytes(b"n1=caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_labelled(data, names)


def test_classes_of_one_name_are_one_class(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "d", "n1/a.jpg", "n2/a.jpg", "n3/a.jpg")
    names = tmp_path / "names.txt"
    names.write_text("n1=crane\nn2=crane\nn3=tench\n")
    labelled = read_labelled(data, names)
    assert labelled.classes == ("crane", "tench")
    assert labelled.labels.tolist() == [0, 0, 1]


def test_a_plain_list_names_the_folders_in_their_order(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "d", "0/a.jpg", "2/a.jpg", "10/a.jpg")
    names = tmp_path / "names.txt"
    names.write_text("tench, Tinca tinca\ngoldfish\nshark\n")
    labelled = read_labelled(data, names)
    named = {
        source.name: labelled.classes[label]
        for source, label in zip(labelled.sources, labelled.labels, strict=True)
    }
    assert named == {"0/a.jpg": "tench, Tinca tinca", "2/a.jpg": "goldfish", "10/a.jpg": "shark"}


@pytest.mark.parametrize(
    ("lines", "classes"),
    [
        ("plastic\nGlass\ntin_can\n", ("Glass", "plastic", "tin_can")),  # their own names
        ("glass\nplastic\ncan\n", ("glass", "plastic", "can")),  # in their order
        ("glass jar\nplastic cup\ntin_can lid\n", ("glass jar", "plastic cup", "tin_can lid")),
        ('"glass","jar, or two"\nplastic,cup\ntin_can\n', ("jar, or two", "cup", "tin_can")),
    ],
)
def test_a_list_of_names_never_swaps_classes(
    tmp_path: Path, lines: str, classes: tuple[str, ...]
) -> None:
    data = make_photos(tmp_path / "d", "glass/a.jpg", "plastic/a.jpg", "tin_can/a.jpg")
    names = tmp_path / "names.txt"
    names.write_text(f"# mine\n{lines}")
    assert read_labelled(data, names).classes == classes
    make_photos(data, "paper/a.jpg")
    with pytest.raises(DatasetError, match=r"of 4 classes; missing: "):
        read_labelled(data, names)


def test_columns_of_a_table_may_have_names_of_their_own(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("Foto,Klasse\n1.jpg,Hund\n")
    labelled = read_labelled(table, image_column="Foto", label_column="Klasse")
    assert labelled.classes == ("Hund",)


def test_a_mapping_for_other_folders_is_no_list_of_names(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "d", "n1/a.jpg", "n2/a.jpg")
    names = tmp_path / "names.txt"
    names.write_text("n3=tench\nn4=goldfish\n")
    with pytest.raises(DatasetError, match="0 of 2 classes"):
        read_labelled(data, names)


def test_folders_that_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder or table"):
        read_labelled(tmp_path / "none")
    flat = make_photos(tmp_path / "flat", "a.jpg")
    with pytest.raises(DatasetError, match="has no class folders"):
        read_labelled(flat)
    (make_photos(tmp_path / "one", "cat/a.jpg") / "dog").mkdir()
    with pytest.raises(DatasetError, match=r"no images in 1 of 2 class folders of .*: dog"):
        read_labelled(tmp_path / "one")
    split = make_photos(tmp_path / "mri", "Training/a/1.jpg", "Testing/a/1.jpg")
    with pytest.raises(DatasetError, match="are splits and no classes; give one of them"):
        read_labelled(split)


def test_a_table_of_paths_and_labels(tmp_path: Path) -> None:
    make_photos(tmp_path, "x/1.jpg", "x/2.jpg", "3.jpg")
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,label\nx/2.jpg,dog\nx/1.jpg,cat\n3.jpg,\ngone.jpg,cat\nx/1.jpg,cat\n3.jpg,dog\n"
    )
    labelled = read_labelled(table)
    assert labelled.classes == ("cat", "dog")
    assert [source.name for source in labelled.sources] == ["x/2.jpg", "x/1.jpg", "3.jpg"]
    assert labelled.labels.tolist() == [1, 0, 1]
    assert [item.name for item in labelled.skipped] == [
        "labels.csv line 4",
        "labels.csv line 6",
        "gone.jpg",
    ]


def test_a_file_under_two_labels_is_left_out_with_all_its_rows(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    table = tmp_path / "labels.csv"
    table.write_text(
        "path,label\n1.jpg,cat\n2.jpg,dog\n1.jpg,dog\n1.jpg,cat\n3.jpg,fox\n2.jpg,ox\n"
    )
    labelled = read_labelled(table)
    assert [source.name for source in labelled.sources] == ["3.jpg"]
    assert [item.name for item in labelled.skipped] == ["labels.csv line 5", "1.jpg", "2.jpg"]
    assert labelled.skipped[1].reason == (
        "the same file stands under two labels: cat (labels.csv line 2), dog (labels.csv line 4)"
    )


def test_a_class_whose_files_are_missing_keeps_its_place(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg", "2.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n1.jpg,ant\ngone.jpg,bee\n2.jpg,cat\n")
    labelled = read_labelled(table)
    assert labelled.classes == ("ant", "bee", "cat")
    assert labelled.labels.tolist() == [0, 2]


def test_underscores_become_spaces_unless_two_classes_would_be_one(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "d", "a_b/1.jpg", "a b/1.jpg", "c_d/1.jpg")
    assert read_labelled(data).classes == ("a b", "a_b", "c d")


def test_a_path_that_no_file_can_have_costs_its_row_only(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg")
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label\n{'a' * 300}.jpg,dog\n1.jpg,cat\n")
    labelled = read_labelled(table)
    assert (len(labelled), len(labelled.skipped)) == (1, 1)


def test_a_table_with_nothing_usable(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,label\ngone.jpg,cat\n")
    with pytest.raises(DatasetError, match=r"nothing usable .* first: gone\.jpg"):
        read_labelled(table)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(
        DatasetError, match=r"does not name a column image or .*, and one label or class"
    ):
        read_labelled(table)
