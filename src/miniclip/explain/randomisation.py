"""The parameter-randomisation check: a model that knows nothing must have other maps.

Adebayo et al. 2018, arXiv 1810.03292, section 3. What is randomised: every tensor of at least two
axes of the image tower has its values shuffled (`weights.py`), which is all layers at once; biases,
norms, the text's vector and a fitted classifier stay. A method whose maps survive that shows the
picture and not the model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.stats import rankdata

from miniclip.arrays import FloatArray
from miniclip.atomic import replacing
from miniclip.bundle import CARD_FILE, IMAGE_FILE, PARITY_FILE, Bundle, write_bundle
from miniclip.encoder import Encoder
from miniclip.errors import BundleError, StoreError
from miniclip.explain.explanation import Method, find_method
from miniclip.explain.scores import cosine_to
from miniclip.explain.subject import Score, Subject
from miniclip.explain.weights import shuffle_weights
from miniclip.home import cache_dir
from miniclip.metrics import Interval, bootstrap_interval
from miniclip.preprocess import preprocess

LIMIT = 0.5
_VERSION = 1  # of all that the answer hangs on beside the bundle
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Randomisation:
    """How alike the maps of a model and of its shuffled copy are.

    correlations: (P,) |Spearman's rho| of the two maps of each of P pictures, 0..1. between:
    mean |rho| of maps of different pictures by the model itself: how alike maps are that have
    nothing in common, for any smooth map resembles any other a little.
    """

    correlations: tuple[float, ...]
    between: float

    def __str__(self) -> str:
        word = "passed" if self.passed else "FAILED"
        return (
            f"{word}: the maps of a model with shuffled weights have a rank correlation of "
            f"{self.mean:.2f} with its own (limit {LIMIT}, maps of other pictures "
            f"{self.between:.2f})"
        )

    @property
    def mean(self) -> float:
        """Mean over the pictures."""
        return float(np.mean(self.correlations))

    @property
    def interval(self) -> Interval:
        """Bootstrap interval of the mean, over the pictures."""
        return bootstrap_interval(np.array(self.correlations))

    @property
    def passed(self) -> bool:
        """Whether the maps come from the model: the mean is below `LIMIT`."""
        return self.mean < LIMIT

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip explain --json` says of it."""
        return {
            "passed": self.passed,
            "rank_correlation": self.mean,
            "interval": list(self.interval),
            "between_pictures": self.between,
            "limit": LIMIT,
            "pictures": len(self.correlations),
            "randomised": "the values of every tensor of two or more axes of the image tower, "
            "shuffled within the tensor",
        }


def check_randomisation(
    encoder: Encoder,
    shuffled: Encoder,
    pictures: Sequence[Image.Image],
    draw: Method,
    scores: Sequence[Score] | None = None,
    *,
    seed: int = 0,
) -> Randomisation:
    """Draw maps of at least two pictures by an encoder and its shuffled copy, and compare them.

    scores: one for each picture; None: the cosine to the picture's own vector, which every encoder
    has. Both encoders are asked for the same score.
    """
    asked = scores or [cosine_to(_own_vector(encoder, picture)) for picture in pictures]
    true, other = (
        [
            draw(Subject(one, picture, score), seed)
            for picture, score in zip(pictures, asked, strict=True)
        ]
        for one in (encoder, shuffled)
    )
    pairs = [rank_correlation(one, two) for one, two in combinations(true, 2)]
    return Randomisation(
        tuple(abs(rank_correlation(one, two)) for one, two in zip(true, other, strict=True)),
        float(np.mean(np.abs(pairs))),
    )


def rank_correlation(one: FloatArray, other: FloatArray) -> float:
    """Spearman's rho of two maps of one shape, -1..1; 0 where one of them is constant."""
    ranks = [rankdata(drops) - (drops.size + 1) / 2 for drops in (one, other)]
    lengths = np.linalg.norm(ranks, axis=1)
    return float(ranks[0] @ ranks[1] / np.prod(lengths)) if lengths.all() else 0.0


def write_shuffled(bundle: Bundle, directory: Path, *, seed: int = 0) -> Bundle:
    """Write a copy of a bundle with a shuffled image tower.

    BundleError when the graph keeps no weights where they can be shuffled.
    """
    graph, tensors = shuffle_weights(bundle.path(IMAGE_FILE).read_bytes(), seed=seed)
    if not tensors:
        raise BundleError(
            f"{bundle.path(IMAGE_FILE)} holds no weights as plain tensors, so nothing can be "
            "randomised; leave the check out"
        )
    kept = set(bundle.files) - {IMAGE_FILE, PARITY_FILE, CARD_FILE}
    files: dict[str, Path | bytes] = {name: bundle.path(name) for name in kept}
    manifest = replace(bundle.manifest, name=f"{bundle.name}-shuffled")
    return write_bundle(directory, manifest=manifest, files=files | {IMAGE_FILE: graph})


def check_bundle(
    bundle: Bundle,
    encoder: Encoder,
    open_encoder: Callable[[Bundle], Encoder],
    pictures: Sequence[Image.Image],
    method: str,
) -> Randomisation:
    """Do `check_randomisation` of a bundle and a method once, and remember what came out.

    encoder: what runs the bundle; open_encoder: makes another of its shuffled copy.
    """
    facts = (bundle.fingerprint, method, str(len(pictures)), str(_VERSION))
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    kept = cache_dir(create=False) / "randomisation" / f"{key}.json"
    try:
        stored = json.loads(kept.read_text(encoding="utf-8"))
        return Randomisation(tuple(map(float, stored["correlations"])), float(stored["between"]))
    except (OSError, ValueError, LookupError, TypeError):
        pass  # not checked yet
    with tempfile.TemporaryDirectory(prefix="miniclip-") as folder:
        shuffled = open_encoder(write_shuffled(bundle, Path(folder) / "shuffled"))
        found = check_randomisation(encoder, shuffled, pictures, find_method(method))
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as stream:
            stream.write(json.dumps(asdict(found)).encode())
    except (OSError, StoreError) as error:  # then the next call checks again
        _log.info("cannot remember the randomisation check of %s: %s", bundle.name, error)
    return found


def _own_vector(encoder: Encoder, picture: Image.Image) -> FloatArray:
    pixels = preprocess(picture, encoder.image_spec)
    own: FloatArray = encoder.encode_pixels(pixels[None]).embeddings[0]
    return own
