"""Vectors written for other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from miniclip.errors import ConfigError, StoreError
from miniclip.index.vector_file import Vectors, write_vectors

VECTORS = Vectors(
    ids=("a.jpg", "ü.jpg"),
    embeddings=np.eye(2, 3, dtype=np.float32),
    features=np.arange(8, dtype=np.float32).reshape(2, 4),
)


def test_npz_holds_everything_without_pickle(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    write_vectors(path, VECTORS, model="m", fingerprint="f")

    with np.load(path, allow_pickle=False) as file:
        assert file["ids"].tolist() == list(VECTORS.ids)
        np.testing.assert_array_equal(file["embeddings"], VECTORS.embeddings)
        np.testing.assert_array_equal(file["features"], VECTORS.features)
        assert (str(file["model"]), str(file["fingerprint"])) == ("m", "f")


def test_a_file_name_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    odd = Vectors(("caf\udce9.jpg",), np.ones((1, 3), dtype=np.float32))
    for name in ("v.parquet", "v.npz"):
        write_vectors(tmp_path / name, odd, model="m", fingerprint="f")

    assert parquet.read_table(tmp_path / "v.parquet")["id"].to_pylist() == ["caf\\udce9.jpg"]
    with np.load(tmp_path / "v.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == list(odd.ids)


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "v.parquet"
    write_vectors(path, VECTORS, model="m", fingerprint="f")

    table = parquet.read_table(path)

    assert table["id"].to_pylist() == list(VECTORS.ids)
    assert table["embedding"].to_pylist() == VECTORS.embeddings.tolist()
    assert table["features"].to_pylist() == np.asarray(VECTORS.features).tolist()
    assert table.schema.metadata == {b"model": b"m", b"fingerprint": b"f"}


def test_an_unknown_format_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"v\.csv has no known format; .*\.npz or \.parquet"):
        write_vectors(tmp_path / "v.csv", VECTORS, model="m", fingerprint="f")


def test_a_failed_write_leaves_the_old_file_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.npz"
    path.write_bytes(b"old")

    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)

    with pytest.raises(StoreError, match=r"cannot write .*v\.npz \(No space left on device\)"):
        write_vectors(path, VECTORS, model="m", fingerprint="f")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.npz"]
