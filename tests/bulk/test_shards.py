"""Images in folders, tar shards and tables, on any file system, to shards that survive a kill."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miniclip.bulk.batch import Batches, Embed, FarVectors, embed_here
from miniclip.bulk.far import list_images, read_images
from miniclip.embed import embed_all
from miniclip.errors import ConfigError, DatasetError, StoreError
from miniclip.images import ImageSource
from miniclip.testing import FakeEncoder
from tests.index.photos_on_disk import photo

pa: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")
shards: Any = pytest.importorskip("miniclip.bulk.shards")

ENCODER = FakeEncoder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seventy photos in a folder and one below it: three have one content, two are broken."""
    for number in range(70):
        content = 5 if number in (40, 69) else number
        photo(tmp_path / "photos" / ("" if number % 2 else "even") / f"{number:02}.png", content)
    (tmp_path / "photos" / "11.png").write_bytes(b"no image")
    (tmp_path / "photos" / "even" / "12.png").write_bytes(b"")
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    return tmp_path / "photos"


def test_every_content_is_there_once_with_the_vector_of_the_plain_path(
    photos: Path, tmp_path: Path
) -> None:
    made = fill(photos, tmp_path / "out")

    ids, digests, vectors = parts(tmp_path / "out")
    assert (made.vectors, made.repeats, made.rejected, made.shards, made.found) == (66, 2, 2, 4, 0)
    assert len(ids) == len(set(ids)) == len(set(digests)) == 66
    plain = embed_all(ENCODER, (ImageSource.of(Path(name)) for name in ids))
    assert plain.names == tuple(ids)
    np.testing.assert_array_equal(vectors, plain.embeddings)
    assert digests == [hashlib.sha256(Path(name).read_bytes()).digest() for name in ids]
    repeats = {row["sha256"]: row["id"] for row in rows(tmp_path / "out", "repeats")}
    assert set(repeats) == {hashlib.sha256((photos / "05.png").read_bytes()).digest()}
    assert set(repeats) < set(digests)
    rejects = {Path(row["id"]).name: row["reason"] for row in rows(tmp_path / "out", "rejects")}
    assert set(rejects) == {"11.png", "12.png"}
    assert "not an image" in rejects["11.png"]
    assert "empty" in rejects["12.png"]
    assert {entry.name for entry in made.skipped} == {
        str(photos / "11.png"), str(photos / "even/12.png")
    }  # fmt: skip


@pytest.mark.parametrize("after", [0, 3])
def test_a_killed_run_goes_on_where_it_was_and_gives_the_same_files(
    after: int, photos: Path, tmp_path: Path
) -> None:
    fill(photos, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fill(photos, tmp_path / "out", embed=dying(after))
    photo(photos / "new.png", 99)  # the plan is made, so this is for another run
    asked: list[str] = []

    made = fill(photos, tmp_path / "out", embed=noted(asked))

    assert made.found == after
    assert len(asked) == 70 - 20 * made.found
    for file in (tmp_path / "whole").iterdir():
        assert parquet.read_table(tmp_path / "out" / file.name) == parquet.read_table(file)
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]
    assert fill(photos, tmp_path / "out", embed=dying(0)).found == 4


def test_tar_shards_and_tables_hold_the_same_images(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    (tmp_path / "far").mkdir()
    with tarfile.open(tmp_path / "far" / "a.tar", "w") as tar:
        for path in files[:40]:
            tar.add(path, path.name)
        tar.add(photos / "notes.txt", "notes.txt")
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in files[40:]]
    parquet.write_table(
        pa.table({"image": cells, "text": ["-"] * 30}), tmp_path / "far/b.parquet", row_group_size=7
    )
    (tmp_path / "far" / "broken.tar").write_bytes(b"nothing of the kind" * 100)
    parquet.write_table(pa.table({"text": ["-"]}), tmp_path / "far" / "other.parquet")

    found = list(list_images(str(tmp_path / "far")))
    contents = read_images(found)

    assert contents[:70] == [path.read_bytes() for path in files]
    assert found[0].name == f"{tmp_path}/far/a.tar#{files[0].name}"
    assert [image.name for image in found[40:]] == [
        *(f"{tmp_path}/far/b.parquet#{row}" for row in range(30)),
        f"{tmp_path}/far/broken.tar", f"{tmp_path}/far/other.parquet",
    ]  # fmt: skip
    assert "cannot be listed" in str(contents[70])
    assert "none of the columns image, jpg, png, bytes" in str(contents[71])
    made = fill(tmp_path / "far", tmp_path / "out")
    assert (made.vectors, made.repeats, made.rejected) == (66, 2, 4)


def test_a_file_system_of_fsspec_and_one_of_arrow(photos: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(f"{photos}/", "/bucket/photos", recursive=True)
    there = fill("memory://bucket/photos", "memory://bucket/out")
    here = fill(photos.as_uri(), (tmp_path / "out").as_uri())
    assert (there.vectors, there.repeats, there.rejected) == (66, 2, 2)
    assert (here.vectors, here.repeats, here.rejected) == (66, 2, 2)
    memory.get("/bucket/out/", f"{tmp_path}/copy/", recursive=True)
    np.testing.assert_array_equal(parts(tmp_path / "copy")[2], parts(tmp_path / "out")[2])
    assert parts(tmp_path / "copy")[0][0].startswith("memory://bucket/photos/")


def test_what_cannot_be_is_said(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there is nothing at .*nowhere"):
        fill(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="there are no images at"):
        fill(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DatasetError, match="no file system is known for nonsense://"):
        fill("nonsense://bucket", tmp_path / "out")
    with pytest.raises(StoreError, match=r"cannot keep shards in .*notes\.txt"):
        fill(photos, photos / "notes.txt")
    fill(photos, tmp_path / "out")
    with pytest.raises(ConfigError, match="was begun with another places"):
        fill(photos / "even", tmp_path / "out")
    with pytest.raises(ConfigError, match="was begun with another model, fingerprint"):
        shards.embed_shards(
            FakeEncoder("other"), [str(photos)], str(tmp_path / "out"), noted([]), shard=20
        )


def test_names_that_are_not_utf8_are_rejected_by_name(photos: Path, tmp_path: Path) -> None:
    """Linux allows any bytes as a name, Arrow does not: the others are embedded all the same."""
    odd = [b"caf\xe9.png", b"caf\xe9.txt", b"caf\xe9"]
    for name in odd[:2]:
        (photos / os.fsdecode(name)).write_bytes((photos / "01.png").read_bytes())
    (photos / os.fsdecode(odd[2])).mkdir()
    fill(photos, tmp_path / "out")
    found = rows(tmp_path / "out", "rejects")
    nameless = [row["id"] for row in found if "not UTF-8" in row["reason"]]
    assert nameless == [f"{photos}/caf\\xe9", f"{photos}/caf\\xe9.png"]
    assert len(found) == 4
    with pytest.raises(DatasetError, match="its name is not UTF-8"):
        fill(photos / os.fsdecode(odd[0]), tmp_path / "other")


def fill(place: Path | str, out: Path | str, embed: Embed | None = None) -> Any:
    return shards.embed_shards(
        ENCODER, [str(place)], str(out), embed or embed_here(ENCODER), shard=20
    )


def dying(after: int) -> Embed:
    """Embed so many batches, then die."""

    def embed(batches: Batches) -> Iterator[FarVectors]:
        for number, found in enumerate(embed_here(ENCODER)(batches)):
            if number == after:
                raise KeyboardInterrupt
            yield found

    return embed


def noted(asked: list[str]) -> Embed:
    """Embed, and note what one is asked for."""

    def embed(batches: Batches) -> Iterator[FarVectors]:
        def watched() -> Iterator[Any]:
            for images in batches:
                asked.extend(image.name for image in images)
                yield images

        yield from embed_here(ENCODER)(watched())

    return embed


def parts(folder: Path) -> tuple[list[str], list[bytes], Any]:
    found = rows(folder, "part")
    vectors = np.array([row["embedding"] for row in found], dtype=np.float32)
    return [row["id"] for row in found], [row["sha256"] for row in found], vectors


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    files = sorted(folder.glob(f"{kind}-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]
