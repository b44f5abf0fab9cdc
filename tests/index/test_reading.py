"""Images of an index as sources that can be decoded: files, members of tars, rows of tables."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from miniclip.collection import Index
from miniclip.errors import ImageError
from miniclip.images import decode
from miniclip.index.reading import sources_of
from miniclip.testing import COLOURS, FakeEncoder, picture


def png(colour: str) -> bytes:
    stream = BytesIO()
    picture(colour).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One photo as a file, two in a tar, and two in a table if pyarrow is there."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "red.png").write_bytes(png("red"))
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for colour in ("green", "blue"):
            info = tarfile.TarInfo(f"{colour}.png")
            info.size = len(png(colour))
            tar.addfile(info, BytesIO(png(colour)))
    return folder


def colours_read(index: Index) -> dict[str, tuple[int, ...]]:
    records = index.store.records(index.store.ids().tolist())
    sources = sources_of(index.location, records)
    return {
        record.member or record.path: decode(source).getpixel((0, 0))  # type: ignore[misc]
        for record, source in zip(records, sources, strict=True)
    }


def test_files_and_members_are_read_where_they_lie(folder: Path) -> None:
    with Index.open(folder, FakeEncoder()) as index:
        index.sync()

        found = colours_read(index)

    assert found == {f"{colour}.png": COLOURS[colour] for colour in ("red", "green", "blue")}


def test_rows_of_a_table_are_read(folder: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [png(colour) for colour in ("yellow", "pink")]
    parquet.write_table(pyarrow.table({"image": rows}), folder / "rows.parquet")
    with Index.open(folder, FakeEncoder()) as index:
        index.sync()

        found = colours_read(index)

    assert (found["0"], found["1"]) == (COLOURS["yellow"], COLOURS["pink"])


def test_what_is_gone_is_a_source_that_names_it(folder: Path) -> None:
    with Index.open(folder, FakeEncoder()) as index:
        index.sync()
        records = index.store.records(index.store.ids().tolist())
        (folder / "shard.tar").write_bytes(b"no tar")
        (folder / "red.png").unlink()

        sources = sources_of(index.location, records)

    for record, source in zip(records, sources, strict=True):
        with pytest.raises(ImageError, match=record.member or record.path):
            decode(source)
