"""Collections of photos for the tests of the index: pictures that all differ, and what is true."""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.collection import Index
from miniclip.embed import embed_all
from miniclip.errors import ImageError
from miniclip.images import IMAGE_SUFFIXES, ImageSource, decode
from miniclip.testing import COLOURS, FakeEncoder

_PALETTE = np.array(list(COLOURS.values()), dtype=np.uint8)
_clock = itertools.count(1_600_000_000)


def photo(path: Path, number: int) -> Path:
    """Write picture `number`, different from all others, dated back as those of an archive are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(number).integers(0, len(_PALETTE), (4, 4))
    Image.fromarray(_PALETTE[squares]).resize((16, 16), Image.Resampling.NEAREST).save(path)
    return date(path)


def date(path: Path) -> Path:
    """Give a file a time of modification that no other has, long past."""
    moment = next(_clock) * 1_000_000_000 + os.getpid()  # of this process and of any other
    os.utime(path, ns=(moment, moment))
    return path


def truth(folder: Path) -> dict[Path, bytes]:
    """Return the readable images below a folder and their sha256, found the naive way."""
    found = {}
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() not in IMAGE_SUFFIXES or hidden:
            continue
        try:
            decode(path)
        except ImageError:
            continue
        found[path] = hashlib.sha256(path.read_bytes()).digest()
    return found


def held(index: Index) -> dict[Path, bytes]:
    """Return what an index holds, after checking that nothing is there twice."""
    records = list(index)
    found = {Path(record.path, record.member): record.content for record in records}
    assert len(found) == len(records) == len(index)
    return found


def vectors(index: Index) -> dict[Path, FloatArray]:
    """Return the vector of each image."""
    records = list(index)
    rows = index.store.vectors([record.id for record in records])
    return {Path(record.path): row for record, row in zip(records, rows, strict=True)}


def assert_in_step(index: Index, folder: Path) -> None:
    """Check that each readable image is held once, with its own content and vector."""
    expected = truth(folder)
    assert held(index) == expected
    assert_own_vectors(index)


def assert_own_vectors(index: Index) -> None:
    """Check that every vector is that of the file it stands for."""
    for path, row in vectors(index).items():
        (fresh,) = embed_all(FakeEncoder(), [ImageSource.of(path)]).embeddings
        np.testing.assert_allclose(row, fresh, atol=2e-3, err_msg=str(path))  # kept as float16
