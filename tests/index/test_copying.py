"""An index is copied between stores, either way, and what arrived is what was sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from miniclip.arrays import FloatArray
from miniclip.collection import Index
from miniclip.errors import ConfigError, StoreError
from miniclip.index.address import Directory, InMilvus
from miniclip.index.copying import checksum, copy_index
from miniclip.index.location import Location
from miniclip.index.milvus_store import MilvusStore
from miniclip.index.store import NewImage
from miniclip.testing import COLOURS, FakeEncoder, picture
from tests.index.photos_on_disk import held

pytest.importorskip("pymilvus")


@pytest.fixture
def photos(home: Path, tmp_path: Path) -> Path:
    """Photos with an index beside them, captions, and one that vanished since."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour in COLOURS:
        picture(colour).save(folder / f"{colour}.png")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "blue.png").read_bytes())
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\nred.png,a red photo\nblue.png,a blue photo\n")
    with Index.open(folder, FakeEncoder()) as index:
        index.sync(captions=captions)
        (folder / "green.png").unlink()
        index.sync()
    return folder


def total(location: Location) -> str:
    store = location.address.open()
    try:
        return str(checksum(store, location))
    finally:
        store.close()


def test_an_index_goes_to_milvus_and_back_and_nothing_is_lost(photos: Path, tmp_path: Path) -> None:
    here = Location.of([photos])
    there = Location.of_store(InMilvus(str(tmp_path / "copy.db"), "photos"))
    back = Location.of_store(Directory(tmp_path / "back"))

    sent = copy_index(here, there)
    assert copy_index(there, back) == sent

    assert total(here) == total(there) == total(back) == sent.checksum
    assert sent.images == len(COLOURS)
    assert sent.texts == 2
    for location in (there, back):
        with Index.open([], FakeEncoder(), store=location.address) as index:
            assert index.roots == (photos,)
            assert index.search("red", top=1)[0].path == photos / "red.png"
            assert [hit.text for hit in index.match(photos / "red.png", top=1)] == ["a red photo"]
            with Index.open(photos, FakeEncoder()) as original:
                assert held(index) == held(original)
                assert [one.path for one in index] == [one.path for one in original]
            result = index.sync()  # it goes on there, and knows what vanished
            assert (result.unchanged, result.embedded) == (len(COLOURS), 0)
            picture("green").save(photos / "green.png")
            assert index.sync().embedded == 0
            (photos / "green.png").unlink()
            index.sync()


def test_a_copy_that_lost_something_is_no_copy(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Location.of_store(InMilvus(str(tmp_path / "copy.db")))
    whole = MilvusStore.upsert

    def careless(self: MilvusStore, images: Sequence[NewImage], vectors: FloatArray) -> list[int]:
        return whole(self, images, vectors[::-1])

    with monkeypatch.context() as patched:
        patched.setattr(MilvusStore, "upsert", careless)
        with pytest.raises(StoreError, match="not what"):
            copy_index(Location.of([photos]), there)
    with pytest.raises(ConfigError, match=r"already.*--rebuild"):
        copy_index(Location.of([photos]), there)
    assert copy_index(Location.of([photos]), there, rebuild=True).images == len(COLOURS)


def test_an_index_is_not_copied_onto_itself_nor_from_nowhere(photos: Path, tmp_path: Path) -> None:
    here = Location.of([photos])
    with pytest.raises(ConfigError, match="onto itself"):
        copy_index(here, here, rebuild=True)
    with pytest.raises(StoreError, match="no index at"):
        copy_index(Location.of_store(InMilvus(str(tmp_path / "none.db"))), here)
    assert not (tmp_path / "none.db").exists()
