"""What the answers of an index are worth: confidence, minus, copies. The figures of docs/search.md.

    python benchmarks/asking.py --flickr8k DIR --brain-mri DIR --trashnet DIR

DIR as in the recipes: Flickr8k with images/, Flickr8k.token.txt and Flickr_8k.devImages.txt; the
others with a folder per class. The sentences beside this file were written before any result was
seen, the second file after all settings. Vectors go through the user's cache. One JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from miniclip import load_encoder
from miniclip.arrays import FloatArray
from miniclip.encoder import Encoder
from miniclip.images import ImageSource, decode
from miniclip.index.embed_cached import embed_cached
from miniclip.index.near_duplicates import CORRELATION, grey_rows
from miniclip.index.query import parse_query, query_vector
from miniclip.index.relevance import CROWD, CUT, Opinions, Relevance
from miniclip.index.vector_cache import VectorCache

HERE = Path(__file__).parent
TOP = 10
SHORT = (
    "dog beach snow bicycle grass ball water horse skateboard mountain car street pool guitar "
    "tennis football motorcycle ice red child woman swing bench boat camera sand rope frisbee"
)
WANTED = {
    "beach": "beach|ocean|sea|shore", "snow": r"snow\w*", "grass": r"grass\w*",
    "water": "water|lake|river|pool|ocean", "street": "street|road|sidewalk|city",
    "field": "field", "mountain": "mountains?|hill|cliff", "running": r"run\w*",
    "jumping": r"jump\w*",
}  # fmt: skip
UNWANTED = {
    "people": r"people|man|woman|boy|girl|child|children|person|men|women|kids?|boys|girls|\w+er",
    "dog": "dogs?|puppy", "man": "man|men|guy", "bicycle": r"bike\w*|bicycl\w*|cycl\w*",
    "child": "child|children|boy|girl|kids?|boys|girls",
}  # fmt: skip


class Captioned:
    """The development photos of Flickr8k with their captions, five each, and all vectors."""

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        names = (folder / "Flickr_8k.devImages.txt").read_text("utf-8").split()
        self.paths = [folder / "images" / name for name in names]
        self.images = vectors(encoder, self.paths)
        number = {name: row for row, name in enumerate(names)}
        lines = (folder / "Flickr8k.token.txt").read_text("utf-8").splitlines()
        pairs = [(line.split("#")[0], line.split("\t")[1]) for line in lines if line]
        kept = [(number[name], text) for name, text in pairs if name in number]
        self.owner = np.array([row for row, _ in kept])
        self.texts = [text for _, text in kept]
        self.queries = encode(encoder, self.texts)

    def says(self, pattern: str, *, least: int = 1) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Tell for each photo whether so many of its captions match."""
        found = [bool(re.search(rf"\b({pattern})\b", text.lower())) for text in self.texts]
        return np.bincount(self.owner, weights=found, minlength=len(self.paths)) >= least


def vectors(encoder: Encoder, paths: Sequence[Path]) -> FloatArray:
    with VectorCache.open() as cache:
        return embed_cached(encoder, paths, cache).embeddings


def encode(encoder: Encoder, texts: Sequence[str]) -> FloatArray:
    parts = [encoder.encode_texts(texts[i : i + 256]) for i in range(0, len(texts), 256)]
    return np.concatenate(parts)


def sample(folder: Path, count: int) -> list[Path]:
    """Draw images of all classes, always the same."""
    paths = sorted(folder.glob("*/*"))
    random.Random(7).shuffle(paths)
    return paths[:count]


def sentences(name: str) -> list[str]:
    return (HERE / name).read_text("utf-8").split("\n")[:-1]


def answered(judge: Relevance, queries: FloatArray, images: FloatArray) -> float:
    """Return the share of queries with any image at the usual confidence."""
    opinions = judge.opinions(images)
    crowd = crowd_of(judge, images)
    hits = [judge.confidence(query, opinions, crowd).max() >= CUT for query in queries]
    return float(np.mean(hits))


def crowd_of(judge: Relevance, images: FloatArray) -> Opinions:
    return judge.opinions(images[:: max(1, len(images) // CROWD)])


def cut(judge: Relevance, data: Captioned) -> dict[str, float]:
    """Return the share of right answers among the first ten, and of these that confidence cuts.

    And the share among the first ten by evidence, with which confidence grows.
    """
    opinions, crowd = judge.opinions(data.images), crowd_of(judge, data.images)
    found: list[bool] = []
    otherwise: list[bool] = []
    lost: list[bool] = []
    for query, owner in zip(data.queries, data.owner, strict=True):
        evidence = judge.evidence(query, opinions, crowd)
        found.append(is_first(data.images @ query, owner))
        otherwise.append(is_first(evidence, owner))
        if found[-1]:
            lost.append(bool(judge.confidence(query, opinions, crowd)[owner] < CUT))
    return {
        "within the first ten": float(np.mean(found)),
        "of these cut": float(np.mean(lost)),
        "within the first ten by evidence": float(np.mean(otherwise)),
    }


def is_first(scores: NDArray[Any], row: int) -> bool:
    return bool((scores > scores[row]).sum() < TOP)


def cut_short(judge: Relevance, encoder: Encoder, data: Captioned) -> float:
    """Return the share of right answers to single words among the first ten that is cut."""
    opinions, crowd = judge.opinions(data.images), crowd_of(judge, data.images)
    lost: list[bool] = []
    for word in SHORT.split():
        query, right = encode(encoder, [word])[0], data.says(f"{word}s?", least=2)
        first = np.argsort(-(data.images @ query))[:TOP]
        shares = judge.confidence(query, opinions, crowd)
        lost += [bool(shares[row] < CUT) for row in first if right[row]]
    return float(np.mean(lost))


def minus(encoder: Encoder, data: Captioned) -> dict[str, dict[str, float]]:
    """Return for "x" and "x -y" how many of the ten best show x and not y, and how many y."""
    found: dict[str, list[tuple[float, float]]] = {"x": [], "x -y": []}
    for wanted, is_wanted in WANTED.items():
        for unwanted, is_unwanted in UNWANTED.items():
            bad = data.says(is_unwanted)
            good = data.says(is_wanted) & ~bad
            if good.sum() < TOP:
                continue
            for kind, text in (("x", wanted), ("x -y", f"{wanted} -{unwanted}")):
                query = query_vector(encoder, parse_query(text))
                first = np.argsort(-(data.images @ query))[:TOP]
                found[kind].append((good[first].mean(), bad[first].mean()))
    return {
        kind: dict(zip(("wanted", "unwanted"), np.mean(rows, axis=0).tolist(), strict=True))
        | {"pairs": len(rows)}
        for kind, rows in found.items()
    }


def copies(paths: Sequence[Path]) -> dict[str, float]:
    """Return the share of altered copies of 60 photos that is found."""
    photos = [decode(path) for path in paths[:60]]
    rows = grey_rows([ImageSource.of(path) for path in paths[:60]])
    altered = {
        "jpeg 20": [jpeg(photo, 20) for photo in photos],
        "quarter": [jpeg(photo.reduce(4), 80) for photo in photos],
        "brighter": [jpeg(ImageEnhance.Brightness(photo).enhance(1.3), 90) for photo in photos],
        "contrast": [jpeg(ImageEnhance.Contrast(photo).enhance(1.4), 90) for photo in photos],
        "gamma 0.6": [
            jpeg(photo.point(lambda v: int(255 * (v / 255) ** 0.6)), 95) for photo in photos
        ],
        "grey": [jpeg(photo.convert("L"), 90) for photo in photos],
    }
    found = {
        name: float(((grey_rows(made) * rows).sum(axis=1) >= CORRELATION).mean())
        for name, made in altered.items()
    }
    return found | {"other photos, highest correlation": highest(paths)}


def highest(paths: Sequence[Path]) -> float:
    every = grey_rows([ImageSource.of(path) for path in paths])
    products = every @ every.T
    np.fill_diagonal(products, -1)
    return float(products.max())


def jpeg(photo: Image.Image, quality: int) -> ImageSource:
    stream = BytesIO()
    photo.save(stream, "JPEG", quality=quality)
    return ImageSource("copy", data=stream.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    for name in ("flickr8k", "brain-mri", "trashnet"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=1500)
    parser.add_argument("--bundle")
    given = parser.parse_args()
    encoder = load_encoder(given.bundle)
    judge = Relevance.of(encoder)
    photos = Captioned(given.flickr8k, encoder)
    trash = sample(given.trashnet, 250)
    collections = {
        "brain-mri": vectors(encoder, sample(given.brain_mri, given.slices)),
        "trashnet": vectors(encoder, trash),
    }
    asked = {
        "everyday": encode(encoder, sentences("everyday_sentences.txt")),
        "everyday 2": encode(encoder, sentences("everyday_sentences_2.txt")),
        "captions": photos.queries[::7],
    }
    answers = {
        f"{len(images)} of {place}: {name}, {len(queries)}": answered(judge, queries, images)
        for place, images in collections.items()
        for name, queries in asked.items()
    }
    result = {
        "any image at 0.5": answers,
        "captions": cut(judge, photos),
        "single words cut": cut_short(judge, encoder, photos),
        "minus": minus(encoder, photos),
        "copies": copies(photos.paths) | {"other trash, highest correlation": highest(trash)},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
