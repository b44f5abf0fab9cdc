"""What a data set says about parts and groups, however it is laid out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miniclip.datasets.labelled_splits import LabelledSplits, read_labelled_splits
from miniclip.errors import ConfigError, DatasetError
from tests.datasets.photos import make_photos


def by_name(splits: LabelledSplits) -> dict[str, tuple[str, str]]:
    """Name -> (class, part)."""
    labelled = splits.labelled
    return {
        source.name: (labelled.classes[label], part)
        for source, label, part in zip(
            labelled.sources, labelled.labels.tolist(), splits.part.tolist(), strict=True
        )
    }


def test_class_folders_are_all_for_training(tmp_path: Path) -> None:
    make_photos(tmp_path, "cat/1.jpg", "dog/1.jpg")
    splits = read_labelled_splits(tmp_path)
    assert by_name(splits) == {"cat/1.jpg": ("cat", "train"), "dog/1.jpg": ("dog", "train")}
    assert splits.groups is None


def test_split_folders_share_one_list_of_classes(tmp_path: Path) -> None:
    make_photos(
        tmp_path,
        "Training/cat/1.jpg",
        "Training/dog/1.jpg",
        "Training/fox/1.jpg",
        "valid/dog/1.jpg",
        "Testing/cat/1.jpg",
        "Testing/fox/2.jpg",
        ".cache/x/1.jpg",
    )
    splits = read_labelled_splits(tmp_path)
    assert splits.labelled.classes == ("cat", "dog", "fox")
    assert by_name(splits) == {
        "Training/cat/1.jpg": ("cat", "train"),
        "Training/dog/1.jpg": ("dog", "train"),
        "Training/fox/1.jpg": ("fox", "train"),
        "valid/dog/1.jpg": ("dog", "val"),
        "Testing/cat/1.jpg": ("cat", "test"),
        "Testing/fox/2.jpg": ("fox", "test"),
    }
    assert all(source.path and source.path.is_file() for source in splits.labelled.sources)


@pytest.mark.parametrize(
    "lines", ["n01=tench\nn02=cock\nn03=hen\nn99=stingray\n", "tench\ncock\nhen\n"]
)
def test_names_for_prompts_hold_for_all_parts(tmp_path: Path, lines: str) -> None:
    """No part has all the classes, so the names of one part alone would not fit the list."""
    make_photos(tmp_path, "d/train/n01/1.jpg", "d/train/n03/1.jpg", "d/test/n02/1.jpg")
    make_photos(tmp_path, "d/test/n03/1.jpg")
    names = tmp_path / "names.txt"
    names.write_text(lines)
    splits = read_labelled_splits(tmp_path / "d", names)
    assert splits.labelled.classes == ("tench", "cock", "hen")
    assert by_name(splits) == {
        "train/n01/1.jpg": ("tench", "train"),
        "train/n03/1.jpg": ("hen", "train"),
        "test/n02/1.jpg": ("cock", "test"),
        "test/n03/1.jpg": ("hen", "test"),
    }


def test_a_class_called_train_beside_a_bus_is_a_class(tmp_path: Path) -> None:
    make_photos(tmp_path, "train/1.jpg", "bus/1.jpg")
    assert read_labelled_splits(tmp_path).labelled.classes == ("bus", "train")


def test_a_table_may_name_groups_and_splits(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    table = tmp_path / "data.csv"
    table.write_text(
        "path,label,patient,split\n"
        "1.jpg,sick,p1,train\n2.jpg,well,p2,Test\n3.jpg,well,,val\n4.jpg,sick,p1,train\n"
    )
    splits = read_labelled_splits(table)
    assert splits.part.tolist() == ["train", "test", "val", "train"]
    assert splits.groups is not None
    assert splits.groups[0] == splits.groups[3]
    assert len(set(splits.groups)) == 3
    assert splits.ungrouped == 1


def test_columns_of_unusual_names_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg", "2.jpg")
    table = tmp_path / "data.tsv"
    table.write_text("Teil\tBild\tKlasse\tFall\ndev\t1.jpg\tgut\t7\ntest\t2.jpg\tschlecht\t8\n")
    splits = read_labelled_splits(
        table,
        image_column="Bild",
        label_column="Klasse",
        group_column="Fall",
        split_column="Teil",
    )
    assert splits.part.tolist() == ["val", "test"]
    assert splits.groups == ("7", "8")
    with pytest.raises(DatasetError, match="does not name"):
        read_labelled_splits(
            table, image_column="Bild", label_column="Klasse", group_column="Patient"
        )


def test_a_table_without_them_has_neither(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg")
    (tmp_path / "data.csv").write_text("path,label\n1.jpg,cat\n")
    splits = read_labelled_splits(tmp_path / "data.csv")
    assert splits.groups is None
    assert splits.part.tolist() == ["train"]


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg")
    (tmp_path / "data.csv").write_text("path,label,split\n1.jpg,cat,holdout\n")
    with pytest.raises(DatasetError, match=r"1\.jpg into the split 'holdout'; write train, val"):
        read_labelled_splits(tmp_path / "data.csv")


def test_a_fold_number_or_a_part_of_the_body_is_a_column_like_any_other(tmp_path: Path) -> None:
    make_photos(tmp_path, "1.jpg", "2.jpg")
    table = tmp_path / "data.csv"
    table.write_text("path,label,fold\n1.jpg,cat,0\n2.jpg,dog,1\n")
    assert read_labelled_splits(table).part.tolist() == ["train", "train"]
    table.write_text("path,label,fold\n1.jpg,cat,train\n2.jpg,dog,Test\n")
    assert read_labelled_splits(table).part.tolist() == ["train", "test"]
    table.write_text("path,label,fold,part,subset\n1.jpg,cat,0,knee,train\n2.jpg,dog,1,hip,val\n")
    assert read_labelled_splits(table).part.tolist() == ["train", "val"]
    with pytest.raises(DatasetError, match=r"1\.jpg into the split '0'"):
        read_labelled_splits(table, split_column="fold")
    table.write_text("path,label,fold\n1.jpg,cat,train\n2.jpg,dog,tset\n")
    with pytest.raises(DatasetError, match=r"2\.jpg into the split 'tset'"):
        read_labelled_splits(table)


@pytest.mark.parametrize(
    ("expression", "groups"),
    [
        (r"^(p\d)_", ("p1", "p2", "p1")),  # the first bracket, of the file's name
        (r"p\d", ("p1", "p2", "p1")),  # or all that matched
        (r"(x\d)/", ("x1", "x1", "x2")),  # with a slash: of the path
    ],
)
def test_an_expression_groups_files_by_name(
    tmp_path: Path, expression: str, groups: tuple[str, ...]
) -> None:
    make_photos(tmp_path, "cat/x1/p1_a.jpg", "cat/x1/p2_b.jpg", "dog/x2/p1_c.jpg")
    splits = read_labelled_splits(tmp_path, group_regex=expression)
    assert splits.groups == groups
    assert splits.ungrouped == 0


def test_files_that_the_expression_does_not_match_stand_alone(tmp_path: Path) -> None:
    make_photos(tmp_path, "cat/p1_a.jpg", "cat/b.jpg", "cat/c.jpg")
    splits = read_labelled_splits(tmp_path, group_regex=r"p\d")
    assert splits.groups is not None
    assert len(set(splits.groups)) == 3
    assert splits.ungrouped == 2


def test_an_expression_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    make_photos(tmp_path, "cat/1.jpg")
    with pytest.raises(ConfigError, match=r"matches none of 1 file names, such as 1\.jpg"):
        read_labelled_splits(tmp_path, group_regex="patient")
    with pytest.raises(ConfigError, match="no regular expression"):
        read_labelled_splits(tmp_path, group_regex="(p")
    with pytest.raises(ConfigError, match="is a folder and no table"):
        read_labelled_splits(tmp_path, group_column="patient")
    table = tmp_path / "data.csv"
    table.write_text("path,label,group\ncat/1.jpg,cat,a\n")
    with pytest.raises(ConfigError, match="has a group column"):
        read_labelled_splits(table, group_regex="cat")


def test_some_rows_keep_all_classes(tmp_path: Path) -> None:
    make_photos(tmp_path, "cat/p1.jpg", "dog/p2.jpg", "dog/p3.jpg")
    splits = read_labelled_splits(tmp_path, group_regex=r"p\d")
    some = splits.rows(np.array([2, 0]))
    assert [source.name for source in some.labelled.sources] == ["dog/p3.jpg", "cat/p1.jpg"]
    assert some.labelled.labels.tolist() == [1, 0]
    assert some.labelled.classes == ("cat", "dog")
    assert some.groups == ("p3", "p1")
    assert len(splits.rows(splits.labelled.labels == 1)) == 2


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder or table"):
        read_labelled_splits(tmp_path / "none")
    with pytest.raises(DatasetError, match="no class folders"):
        read_labelled_splits(tmp_path)
