"""`BundleEncoder`: an `Encoder` over the two graphs of a bundle, whatever runtime runs them.

It knows nothing of files, decoding or streams of photos; `embed.py` feeds it. What one runtime does
its own way is in `onnx_encoder` and `openvino_encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import IMAGE_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle
from miniclip.cpus import usable_cpus
from miniclip.encoder import ImageVectors
from miniclip.errors import BundleError, ConfigError, ImageError, TokenizerError
from miniclip.preprocess import ImageSpec
from miniclip.tokenizer import TextSpec, Tokenizer
from miniclip.tower import Tower
from miniclip.tower_graph import Ports, TowerGraph

TEXT_BATCH = 8  # sentences to one run of a graph


class MakeGraph(Protocol):
    """What makes a graph of one runtime."""

    def __call__(
        self, path: Path, *, threads: int, inputs: Ports, outputs: Ports, lanes: int
    ) -> TowerGraph:
        """Arguments as for `TowerGraph`."""


def images_per_run(side: int) -> int:
    """How many images of side x side pixels one run of a graph takes.

    More of them leave the processor's caches and fill the memory: 32 images of 260 pixels at once
    run at three quarters of the speed of 4, in five times the memory. At 224 pixels, the size of
    most transformers, 8 are 4 % faster than 4 (in int8 6 %); at 260 they only cost 0.36 GB more.
    """
    return 8 if side <= 224 else 4


class BundleEncoder:
    """An `Encoder` over the graphs of a bundle, on the CPU; threads may share one.

    Each graph is loaded when first needed. BundleError when one does not load, does not have the
    inputs and outputs that the manifest promises, or fails.
    """

    def __init__(self, bundle: Bundle, threads: int | None, make: MakeGraph) -> None:
        """Take a bundle, and what makes a graph of a runtime from a file.

        threads: how many of them one call may keep busy; None for the CPUs this process may use.
        """
        if threads is None:
            threads = usable_cpus()
        if threads < 1:
            raise ConfigError(f"threads is {threads}; give at least 1, or none for all CPUs")
        manifest = bundle.manifest
        self._bundle = bundle
        self._threads = threads
        self._fingerprint = bundle.fingerprint
        graph = partial(
            make,
            bundle.path(IMAGE_FILE),
            inputs={"pixels": ("tensor(float)", (None, *manifest.image.shape))},
            outputs={
                "embedding": ("tensor(float)", (None, manifest.embedding_dim)),
                "features": ("tensor(float)", (None, manifest.feature_dim)),
            },
        )
        self._image = Tower(graph, threads)
        self._text = _text_tower(bundle, manifest.text, threads, make) if manifest.text else None

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self._bundle.name

    @property
    def fingerprint(self) -> str:
        """The bundle's fingerprint: 64 hex digits."""
        return self._fingerprint

    @property
    def image_spec(self) -> ImageSpec:
        """How an image becomes pixels."""
        return self._bundle.manifest.image

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self._bundle.manifest.embedding_dim

    @property
    def feature_dim(self) -> int:
        """F."""
        return self._bundle.manifest.feature_dim

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """How many features come from one layer, the last layer's first."""
        return self._bundle.manifest.feature_parts

    @property
    def logit_scale(self) -> float:
        """Factor from cosine to logit."""
        return self._bundle.manifest.logit_scale

    @property
    def logit_bias(self) -> float:
        """Added to the scaled cosine."""
        return self._bundle.manifest.logit_bias

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        """(B, 3, S, S) float32 from `preprocess` to unit rows (B, D) and features (B, F).

        ImageError for pixels of another shape.
        """
        shape = self.image_spec.shape
        if pixels.shape[1:] != shape:
            raise ImageError(
                f"pixels of shape {pixels.shape} do not fit {self.name}, which takes "
                f"(B, {', '.join(map(str, shape))}); "
                "make them with preprocess(image, encoder.image_spec)"
            )
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        embeddings = np.empty((len(pixels), self.embedding_dim), dtype=np.float32)
        features = np.empty((len(pixels), self.feature_dim), dtype=np.float32)
        parts = self._shared_out(len(pixels), images_per_run(shape[-1]))
        found = self._image.run([{"pixels": pixels[part]} for part in parts])
        for part, outputs in zip(parts, found, strict=True):
            embeddings[part], features[part] = outputs
        return ImageVectors(unit_rows(embeddings), features)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """N texts to unit rows (N, D), in order.

        TokenizerError for anything but strings; BundleError for any text where the model has no
        text tower. Texts of like length share a batch, so that little of it is padding; the longest
        go first, so that the memory of the first batch serves all others.
        """
        if isinstance(texts, str):
            raise TokenizerError(f"expected a list of texts, got the text {texts!r}; wrap it in []")
        vectors = np.empty((len(texts), self.embedding_dim), dtype=np.float32)
        if not len(texts):
            return vectors
        if self._text is None:
            raise BundleError(
                f"{self.name} has no text tower; it takes images alone (embed, fit, predict, "
                "search --image), so name another bundle for anything with words"
            )
        tokenizer, tower = self._text
        order = sorted(range(len(texts)), key=lambda place: -len(str(texts[place])))
        parts = [order[part] for part in self._shared_out(len(texts), TEXT_BATCH)]
        tokens = [tokenizer([texts[place] for place in part])._asdict() for part in parts]
        for part, (rows,) in zip(parts, tower.run(tokens), strict=True):
            vectors[part] = rows
        return unit_rows(vectors)

    def _shared_out(self, count: int, most: int) -> list[slice]:
        """Cut 0..count into parts of at most `most`, and of fewer where threads would idle."""
        size = max(1, min(most, -(-count // self._threads)))
        return [slice(start, start + size) for start in range(0, count, size)]


class _TextTower(NamedTuple):
    tokenizer: Tokenizer
    tower: Tower


def _text_tower(bundle: Bundle, spec: TextSpec, threads: int, make: MakeGraph) -> _TextTower:
    length = spec.context_length if spec.pad == "max" else None
    graph = partial(
        make,
        bundle.path(TEXT_FILE),
        inputs={
            "input_ids": ("tensor(int64)", (None, length)),
            "attention_mask": ("tensor(int64)", (None, length)),
        },
        outputs={"embedding": ("tensor(float)", (None, bundle.manifest.embedding_dim))},
    )
    tokenizer = Tokenizer.from_file(bundle.path(TOKENIZER_FILE), spec)
    # A sentence is done before a second thread has joined in, and waiting for one that shares its
    # processor with other work takes many times as long. Padded, it is long enough to be shared.
    return _TextTower(tokenizer, Tower(graph, threads, wide=spec.pad == "max"))
