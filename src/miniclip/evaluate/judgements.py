"""Do a model's cosines rank captions as people do? CLIPScore, RefCLIPScore and Kendall's tau.

Hessel et al. 2021, "CLIPScore: A Reference-free Evaluation Metric for Image Captioning": equations
1 and 2, and the protocol of section 4 and appendix A on Flickr8k-Expert (every rating counts; a
caption written for the very image is left out, as in Anderson et al. 2016; tau-c is published) and
Flickr8k-CF (the share of yes; tau-b is published).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.datasets.judgements import JudgementSet
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError
from miniclip.probe.intervals import RESAMPLES, Score, Weights, bootstrap, percentiles

Variant = Literal["b", "c"]
VARIANTS: tuple[Variant, ...] = ("b", "c")
PUBLISHED: dict[str, Variant] = {"expert": "c", "crowdflower": "b"}
_WEIGHT = 2.5  # w of equation 1; it changes no tau of CLIPScore, but the mean of RefCLIPScore
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """J ratings beside what a model says of the same caption and image.

    ratings, clipscore, refclipscore: (J,) float64; refclipscore is None where an image has no
    reference. image: (J,) int64. left_out: captions written for the very image.
    """

    ratings: _Array
    image: IntArray
    clipscore: _Array
    refclipscore: _Array | None
    left_out: int


def clip_scores(cosines: NDArray[Any]) -> _Array:
    """CLIP-S(c, v) = 2.5 max(cos(c, v), 0), equation 1: any shape, 0 to 2.5."""
    scores: _Array = _WEIGHT * np.maximum(cosines.astype(np.float64), 0.0)
    return scores


def ref_clip_scores(clip: _Array, references: NDArray[Any]) -> _Array:
    """Harmonic mean of CLIP-S and the best cosine to a reference, not below 0: equation 2.

    clip: (J,) of `clip_scores`; references: (J,) the highest cosine between the caption and a
    reference. 0 where either is 0.
    """
    best = np.maximum(references.astype(np.float64), 0.0)
    total = clip + best
    scores: _Array = np.divide(2 * clip * best, total, out=np.zeros_like(total), where=total > 0)
    return scores


def judge(
    encoder: Encoder,
    judged: JudgementSet,
    images: Mapping[int, FloatArray],
    *,
    prefix: str,
) -> Judged:
    """Score judged captions; images: number of an image -> unit row (D,), for those readable.

    prefix: put before every caption and reference. A caption is no reference of itself.
    DatasetError when no judgement is left.
    """
    used = [one for one in judged.judgements if one.image in images]
    kept = [one for one in used if judged.judges != "expert" or not one.own]
    if not kept:
        raise DatasetError(
            f"none of the {len(judged.judgements)} judgements of {judged.name} can be used: "
            f"{len(used)} are of readable images, all of them of captions written for the image"
        )
    references = [
        [text for text in judged.references[one.image] if text != one.caption] for one in kept
    ]
    texts = list(dict.fromkeys([one.caption for one in kept] + [t for r in references for t in r]))
    rows = dict(
        zip(texts, encoder.encode_texts([prefix + text for text in texts]), strict=True)
    )  # one row (D,) per text
    cosines = np.array([images[one.image] @ rows[one.caption] for one in kept])
    clip = clip_scores(cosines)
    ref = None
    if all(references):
        best = [
            max(float(rows[text] @ rows[one.caption]) for text in own)
            for one, own in zip(kept, references, strict=True)
        ]
        ref = ref_clip_scores(clip, np.array(best))
    times = [len(one.ratings) for one in kept]
    return Judged(
        ratings=np.array([rating for one in kept for rating in one.ratings], dtype=np.float64),
        image=np.repeat([one.image for one in kept], times).astype(np.int64),
        clipscore=np.repeat(clip, times),
        refclipscore=None if ref is None else np.repeat(ref, times),
        left_out=len(used) - len(kept),
    )


def kendall(scores: _Array, ratings: _Array, variant: Variant) -> float:
    """Kendall's tau-b or tau-c by scipy, -1 to 1; NaN when either side is constant."""
    from scipy.stats import kendalltau  # noqa: PLC0415 -- half a second to import

    return float(kendalltau(scores, ratings, variant=variant).statistic)


def tau(
    scores: _Array,
    ratings: _Array,
    image: IntArray,
    variant: Variant,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Score:
    """Kendall's tau with its interval: images are drawn anew, and all their judgements follow."""
    drawn = resampled_taus([scores], ratings, image, variant, seed=seed, resamples=resamples)[:, 0]
    finite = drawn[np.isfinite(drawn)]
    value = kendall(scores, ratings, variant)
    return Score(value, percentiles(finite if len(finite) else np.array([value])))


def resampled_taus(
    scores: Sequence[_Array],
    ratings: _Array,
    image: IntArray,
    variant: Variant,
    *,
    seed: int,
    resamples: int,
) -> _Array:
    """Kendall's taus of S models on the same resamples of images: (R, S)."""
    _, owner = np.unique(image, return_inverse=True)

    def taus(weights: Weights) -> dict[str, NDArray[Any]]:
        found = np.empty((weights.shape[1], len(scores)))
        for draw, times in enumerate(weights[owner].T.astype(np.int64)):
            rows = np.repeat(np.arange(len(owner)), times)
            found[draw] = [kendall(one[rows], ratings[rows], variant) for one in scores]
        return {"tau": found}

    return bootstrap(taus, int(owner.max()) + 1, seed=seed, resamples=resamples)["tau"]
