"""Write vectors to a file that other tools read: NumPy's .npz or Parquet. No pickle, no model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.atomic import replacing
from miniclip.errors import ConfigError, MissingExtraError

SUFFIXES = (".npz", ".parquet")


def check_output(path: Path) -> None:
    """Refuse an output before the work: ConfigError for an unknown format or a missing folder.

    MissingExtraError without pyarrow, where that is needed.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path} has no known format; end its name with {' or '.join(SUFFIXES)}")
    if not os.path.isdir(path.parent):
        raise ConfigError(f"there is no folder {path.parent} for {path.name}; make it first")
    if path.suffix == ".parquet":
        _pyarrow()


@dataclass(frozen=True)
class Vectors:
    """What to write. ids: N; embeddings: (N, D) float32; features: (N, F) float32 or None."""

    ids: tuple[str, ...]
    embeddings: FloatArray
    features: FloatArray | None = None


def write_vectors(path: Path, vectors: Vectors, *, model: str, fingerprint: str) -> None:
    """Write the file whole or not at all, replacing an older one.

    An .npz holds the arrays `ids`, `embeddings`, `features` and, as texts, `model` and
    `fingerprint`; a Parquet file the columns `id`, `embedding`, `features`, and the two texts in
    its metadata. StoreError when it cannot be written.
    """
    check_output(path)
    about = {"model": model, "fingerprint": fingerprint}
    write = _write_npz if path.suffix == ".npz" else _write_parquet
    with replacing(path) as stream:
        write(stream, vectors, about)


def _write_npz(stream: IO[bytes], vectors: Vectors, about: dict[str, str]) -> None:
    arrays: dict[str, Any] = {"ids": np.array(vectors.ids, dtype=np.str_), **about}
    arrays["embeddings"] = vectors.embeddings
    if vectors.features is not None:
        arrays["features"] = vectors.features
    np.savez(stream, **arrays)


def _write_parquet(stream: IO[bytes], vectors: Vectors, about: dict[str, str]) -> None:
    pa, parquet = _pyarrow()
    ids = [name.encode(errors="backslashreplace").decode() for name in vectors.ids]
    columns = {"id": pa.array(ids, type=pa.string())}  # UTF-8 only, which a file name need not be
    for name, rows in (("embedding", vectors.embeddings), ("features", vectors.features)):
        if rows is not None:
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    parquet.write_table(pa.table(columns).replace_schema_metadata(about), stream)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415 - optional
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Writing Parquet", "parquet") from error
    return pyarrow, parquet
