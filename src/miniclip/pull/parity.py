"""The parity record: what the original model says about the probes, kept in the bundle.

It is written when a bundle is made, and held against the bundle again on the first load on a
machine, with its own processor, runtime and image library. It runs an encoder that it is given.
"""

from __future__ import annotations

import hashlib
import io
import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import PIL
import tokenizers
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, unit_rows
from miniclip.atomic import replacing
from miniclip.bundle import PARITY_FILE, Bundle, write_bundle
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, ExportError, StoreError
from miniclip.home import cache_dir
from miniclip.manifest import Parity
from miniclip.preprocess import preprocess
from miniclip.pull.probes import PROBE_SENTENCES, PROBES_VERSION, probe_photos

MIN_COSINE = 0.99999  # in float32: what is left is the order of sums
MIN_LOSSY_COSINE = 0.999  # of smaller weights
SLACK = 0.001  # how much more a lossy model may lose on another machine

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeVectors:
    """What a model says about the P probe photos and the Q probe sentences.

    images: (P, D) float32 unit rows. features: (P, F) float32, before the projection. texts: (Q, D)
    float32 unit rows; None for a model of images alone.
    """

    images: FloatArray = field(repr=False)
    features: FloatArray = field(repr=False)
    texts: FloatArray | None = field(repr=False, default=None)

    def to_bytes(self) -> bytes:
        """Return the content of `parity.npz`; equal vectors give equal bytes."""
        texts = {} if self.texts is None else {"texts": self.texts}
        arrays = {"images": self.images, "features": self.features, **texts}
        stream = io.BytesIO()
        version = np.array(PROBES_VERSION)
        np.savez_compressed(stream, allow_pickle=False, version=version, **arrays)
        return stream.getvalue()


def encode_probes(encoder: Encoder, *, texts: bool = True) -> ProbeVectors:
    """Ask an encoder about the probes. texts: whether it has a text tower."""
    pixels = np.stack([preprocess(photo, encoder.image_spec) for photo in probe_photos()])
    images, features = encoder.encode_pixels(pixels)
    return ProbeVectors(images, features, encoder.encode_texts(PROBE_SENTENCES) if texts else None)


def compare(expected: ProbeVectors, found: ProbeVectors, *, least: float = MIN_COSINE) -> Parity:
    """Measure how near one model comes to another.

    ExportError names the worst probe when its cosine is below `least`. The limit of the record is a
    thousandth below what was measured, but not below `least`.
    """
    photos, features, *texts = _measured(expected, found)
    worst = min((photos, features, *texts), key=lambda measured: measured.least)
    if not worst.least >= least:
        raise ExportError(
            f"the graphs and the model that they were made from differ: {worst}, but it must be at "
            f"least {least}; ask for more precise weights, or report a model that fails in float32"
        )
    return Parity(
        image_cosine_min=min(photos.least, features.least),
        text_cosine_min=texts[0].least if texts else None,
        photos=len(photos.cosines),
        sentences=len(texts[0].cosines) if texts else 0,
        image_max_abs=photos.max_abs,
        text_max_abs=texts[0].max_abs if texts else None,
        limit=max(least, worst.least - SLACK),
    )


def write_parity(
    directory: Path | str,
    trial: Bundle,
    expected: ProbeVectors,
    encoder: Encoder,
    *,
    least: float = MIN_COSINE,
) -> Bundle:
    """Write a bundle like `trial`, with the record of what was measured on it.

    expected: what the original model says; encoder: one that runs `trial`. ExportError, and nothing
    written, when they differ by a cosine below `least`.
    """
    found = encode_probes(encoder, texts=expected.texts is not None)
    manifest = replace(trial.manifest, parity=compare(expected, found, least=least))
    files = {name: trial.path(name) for name in trial.files}
    return write_bundle(
        directory, manifest=manifest, files={**files, PARITY_FILE: expected.to_bytes()}
    )


def read_parity(bundle: Bundle) -> ProbeVectors | None:
    """Read what the original model said; None when the bundle has no record of these probes.

    BundleError when the record is damaged.
    """
    if PARITY_FILE not in bundle.files:
        return None
    path = bundle.path(PARITY_FILE)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            if int(arrays["version"]) != PROBES_VERSION:
                _log.info("%s is about other probes and is not checked", path)
                return None
            vectors = ProbeVectors(arrays["images"], arrays["features"], arrays.get("texts"))
    except (OSError, BadZipFile, EOFError, ValueError, LookupError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error!r}); {_CURE}") from error
    manifest = bundle.manifest
    sentences = manifest.parity.sentences
    wanted = {
        "images": (manifest.parity.photos, manifest.embedding_dim),
        "features": (manifest.parity.photos, manifest.feature_dim),
        "texts": (sentences, manifest.embedding_dim) if sentences else None,
    }
    for name, shape in wanted.items():
        rows = getattr(vectors, name)
        if (None if rows is None else rows.shape) != shape:
            raise BundleError(f"{path}: {name} is not {shape}, as bundle.json says; {_CURE}")
    return vectors


def check_parity(bundle: Bundle, encoder: Encoder) -> None:
    """Raise BundleError, naming the worst probe, unless the bundle does here what it should.

    A bundle without a record passes.
    """
    expected = read_parity(bundle)
    if expected is None:
        return
    found = encode_probes(encoder, texts=expected.texts is not None)
    worst = min(_measured(expected, found), key=lambda measured: measured.least)
    limit = bundle.manifest.parity.limit
    if not worst.least >= limit:
        raise BundleError(
            f"{bundle.directory} does not give on this machine the vectors of its model: {worst}, "
            f"but it must be at least {limit:.6g}; update onnxruntime, Pillow and tokenizers, "
            "or make the bundle again on this machine"
        )


def check_once(bundle: Bundle, encoder: Encoder, runtime: str) -> None:
    """Do `check_parity` unless it passed on this machine before. Errors as there.

    runtime: name and version of what runs the graphs.
    """
    if PARITY_FILE not in bundle.files:
        return
    mark = cache_dir(create=False) / "parity" / _key(bundle, runtime)
    if mark.exists():
        return
    check_parity(bundle, encoder)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        with replacing(mark):
            pass
    except (OSError, StoreError) as error:  # then the next load checks again
        _log.info("cannot remember that %s was checked: %s", bundle.directory, error)


_CURE = "pull or export the bundle again"


class _Measured(NamedTuple):
    """Cosines (n,) of the rows of two models, and the largest difference of their numbers."""

    what: str
    cosines: NDArray[np.float64]
    max_abs: float

    @property
    def least(self) -> float:
        return float(self.cosines.min())

    def __str__(self) -> str:
        place = int(self.cosines.argmin())
        shown = f" {PROBE_SENTENCES[place][:60]!r}" if self.what == _SENTENCE else ""
        return f"the cosine of {self.what} {place}{shown} is {self.least:.6f}"


_PHOTO, _FEATURES, _SENTENCE = "photo", "the features of photo", "sentence"


def _measured(expected: ProbeVectors, found: ProbeVectors) -> Iterator[_Measured]:
    for what, wanted, given in (
        (_PHOTO, expected.images, found.images),
        (_FEATURES, expected.features, found.features),
        (_SENTENCE, expected.texts, found.texts),
    ):
        if wanted is None or given is None:
            continue
        one, other = unit_rows(wanted), unit_rows(given)
        cosines = np.einsum("nd,nd->n", np.float64(one), np.float64(other))
        cosines[~one.any(axis=1) & ~other.any(axis=1)] = 1.0  # nothing equals nothing
        yield _Measured(what, cosines, float(np.abs(one - other).max()))


def _key(bundle: Bundle, runtime: str) -> str:
    """Name all that could change the answer."""
    parts = (
        bundle.fingerprint,
        bundle.files[PARITY_FILE],
        repr(bundle.manifest.parity.limit),
        runtime,
        f"pillow {PIL.__version__}",
        f"tokenizers {tokenizers.__version__}",
        platform.machine(),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
