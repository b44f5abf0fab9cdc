"""A collection as a map: a place in the plane for each image, and named groups.

scikit-learn projects (PCA, then t-SNE: van der Maaten and Hinton, JMLR 2008) and groups (HDBSCAN:
Campello, Moulavi and Sander, PAKDD 2013). It draws nothing and opens no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray, unit_rows
from miniclip.encoder import Encoder
from miniclip.index.word_lists import VOCABULARY

MAX_IMAGES = 20_000  # t-SNE takes minutes for as many; of more, a sample is drawn
_COMPONENTS = 50
_PERPLEXITY = 30.0
_TEMPLATES = ("{}", "a photo of {}")
_WORDS = 2
_SMALLEST_GROUP = 5


@dataclass(frozen=True)
class Cluster:
    """A group of images: its name, and where it lies on the map."""

    name: str
    x: float
    y: float
    size: int


@dataclass(frozen=True)
class CollectionMap:
    """Where each image lies, and the groups.

    ids: the N images on the map. xy: (N, 2) float32 in 0..1. cluster_of: (N,) int64, -1 for an
    image of no group. total: how many images there are, of which the N may be a sample.
    """

    ids: tuple[int, ...]
    xy: FloatArray = field(repr=False)
    cluster_of: IntArray = field(repr=False)
    clusters: tuple[Cluster, ...]
    total: int


def draw_map(
    ids: Sequence[int],
    embeddings: FloatArray,
    words: tuple[Sequence[str], FloatArray],
    *,
    total: int,
    seed: int = 0,
) -> CollectionMap:
    """Place and group images.

    embeddings: (N, D) float32 unit rows, row i for ids[i]. words: W names and their (W, D) unit
    rows (`word_vectors`). The same seed gives the same map on one machine.
    """
    xy = project(embeddings, seed=seed)
    cluster_of = group(xy)
    names = name_groups(embeddings, cluster_of, *words)
    clusters = []
    for number, name in enumerate(names):
        members = cluster_of == number
        x, y = np.median(xy[members], axis=0)
        clusters.append(Cluster(name, float(x), float(y), int(members.sum())))
    return CollectionMap(tuple(ids), xy, cluster_of, tuple(clusters), total)


def sample(ids: IntArray, *, at_most: int = MAX_IMAGES, seed: int = 0) -> IntArray:
    """Return all ids, or so many drawn without replacement, in their order."""
    if len(ids) <= at_most:
        return ids
    drawn: IntArray = np.sort(np.random.default_rng(seed).choice(ids, at_most, replace=False))
    return drawn


def word_vectors(encoder: Encoder) -> tuple[tuple[str, ...], FloatArray]:
    """Return the words of the vocabulary and a (W, D) float32 unit row for each."""
    prompts = [template.format(word) for template in _TEMPLATES for word in VOCABULARY]
    rows = encoder.encode_texts(prompts).reshape(len(_TEMPLATES), len(VOCABULARY), -1)
    return VOCABULARY, unit_rows(rows.mean(axis=0))


def project(embeddings: FloatArray, *, seed: int = 0) -> FloatArray:
    """Return (N, 2) float32 in 0..1: PCA to 50 dimensions, then t-SNE."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 - slow to load
    from sklearn.manifold import TSNE  # noqa: PLC0415

    count = len(embeddings)
    if count < 4:  # too few for neighbourhoods: on a line
        return np.stack([np.linspace(0, 1, count + 2)[1:-1], np.full(count, 0.5)], axis=1).astype(
            np.float32
        )
    size = min(_COMPONENTS, count, embeddings.shape[1])
    reduced = PCA(size, random_state=seed, svd_solver="full" if count < 500 else "auto")
    rows = reduced.fit_transform(embeddings)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    start = rows[:, :2] / max(float(rows[:, 0].std()), 1e-12) * 1e-4
    xy = TSNE(perplexity=perplexity, init=start, random_state=seed, n_jobs=-1).fit_transform(rows)
    low, high = xy.min(axis=0), xy.max(axis=0)
    middle, width = (low + high) / 2, max(float((high - low).max()), 1e-9)
    placed: FloatArray = ((xy - middle) / width + 0.5).astype(np.float32)
    return placed


def group(xy: FloatArray) -> IntArray:
    """Return the group of each image, (N,) int64 from 0 by falling size, -1 for none."""
    from sklearn.cluster import HDBSCAN  # noqa: PLC0415 - slow to load

    smallest = max(_SMALLEST_GROUP, round(0.6 * len(xy) ** 0.5))
    if len(xy) < 2 * smallest:
        return np.zeros(len(xy), dtype=np.int64)
    found = HDBSCAN(
        min_cluster_size=smallest,
        min_samples=_SMALLEST_GROUP,
        cluster_selection_method="leaf",
        copy=True,
    )
    raw: NDArray[np.int64] = found.fit_predict(xy).astype(np.int64)
    labels, sizes = np.unique(raw[raw >= 0], return_counts=True)
    rank = {
        int(label): place for place, label in enumerate(labels[np.argsort(-sizes, kind="stable")])
    }
    return np.array([rank.get(int(label), -1) for label in raw], dtype=np.int64)


def name_groups(
    embeddings: FloatArray, cluster_of: IntArray, words: Sequence[str], rows: FloatArray
) -> list[str]:
    """Name each group by the words nearest to its middle.

    Nearest once what the whole collection shares is taken off both sides: with it, a word that
    suits everything here would name every group. No two groups get the same first word.
    """
    count = int(cluster_of.max(initial=-1)) + 1
    if count == 0:
        return []
    middles = np.stack([embeddings[cluster_of == number].mean(axis=0) for number in range(count)])
    centre = embeddings.mean(axis=0) if count > 1 else np.zeros_like(middles[0])
    scores = unit_rows(middles - centre) @ unit_rows(rows - rows.mean(axis=0)).T
    names, taken = [], set[int]()
    for line in scores:
        order = [int(word) for word in np.argsort(-line, kind="stable")]
        first = next((word for word in order if word not in taken), order[0])
        taken.add(first)
        others = [word for word in order if word != first][: _WORDS - 1]
        names.append(", ".join(words[word] for word in (first, *others)))
    return names
