"""`OnnxEncoder`: a bundle's two graphs, run by onnxruntime. The only file that imports it.

It knows nothing of files, decoding or streams of photos; `embed.py` feeds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import IMAGE_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle
from miniclip.cpus import usable_cpus
from miniclip.encoder import ImageVectors
from miniclip.errors import BundleError, ConfigError, ImageError, TokenizerError
from miniclip.preprocess import ImageSpec
from miniclip.pull.parity import check_once
from miniclip.tokenizer import TextSpec, Tokenizer

# What one run of a graph takes. Larger batches leave the processor's caches and fill the memory:
# 32 images of 260 pixels at once run at three quarters of the speed of 4, in 1.1 GB instead of 0.2.
IMAGE_BATCH = 4
TEXT_BATCH = 16

# Name -> (element type, shape); None for a size, or for the whole shape, where any will do.
Ports = Mapping[str, tuple[str, tuple[int | None, ...] | None]]


class OnnxEncoder:
    """An `Encoder` over the graphs of a bundle, on the CPU; threads may share one.

    Each graph is loaded when first needed. BundleError when one does not load, does not have the
    inputs and outputs that the manifest promises, or fails.
    """

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """See `open`."""
        manifest = bundle.manifest
        self._bundle = bundle
        self._fingerprint = bundle.fingerprint
        width = manifest.embedding_dim
        self._image = OnnxGraph(
            bundle.path(IMAGE_FILE),
            threads,
            inputs={"pixels": ("tensor(float)", (None, *manifest.image.shape))},
            outputs={
                "embedding": ("tensor(float)", (None, width)),
                "features": ("tensor(float)", (None, manifest.feature_dim)),
            },
        )
        self._text = _text_tower(bundle, manifest.text, threads) if manifest.text else None

    @classmethod
    def open(cls, bundle: Bundle, *, threads: int | None = None) -> Self:
        """Make an encoder of a bundle.

        threads: how many of them one call may keep busy; None for the CPUs this process may use.
        The first time on a machine, the bundle is held against its parity record, if it has one:
        BundleError when it does not give the vectors that it should.
        """
        if threads is None:
            threads = usable_cpus()
        if threads < 1:
            raise ConfigError(f"threads is {threads}; give at least 1, or none for all CPUs")
        encoder = cls(bundle, threads)
        check_once(bundle, encoder, f"onnxruntime {ort.__version__}")
        return encoder

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
                f"(B, {', '.join(map(str, shape))}); make them with preprocess(image, encoder.image_spec)"
            )
        pixels = np.ascontiguousarray(pixels, dtype=np.float32)
        embeddings = np.empty((len(pixels), self.embedding_dim), dtype=np.float32)
        features = np.empty((len(pixels), self.feature_dim), dtype=np.float32)
        for start in range(0, len(pixels), IMAGE_BATCH):
            some = slice(start, start + IMAGE_BATCH)
            embeddings[some], features[some] = self._image.run({"pixels": pixels[some]})
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
        tokenizer, graph = self._text
        order = sorted(range(len(texts)), key=lambda place: -len(str(texts[place])))
        for start in range(0, len(order), TEXT_BATCH):
            batch = order[start : start + TEXT_BATCH]
            tokens = tokenizer([texts[place] for place in batch])
            (vectors[batch],) = graph.run(tokens._asdict())
        return unit_rows(vectors)


def load_encoder(
    name_or_dir: str | Path | None = None, *, threads: int | None = None
) -> OnnxEncoder:
    """Find a bundle as `Bundle.resolve` does, verify it and open it for use.

    threads: as for `OnnxEncoder.open`. BundleError when there is none or it is altered.
    """
    return OnnxEncoder.open(Bundle.resolve(name_or_dir), threads=threads)


@dataclass
class OnnxGraph:
    """One ONNX file: loaded at first use, held to its ports. BundleError when it fails."""

    path: Path
    threads: int
    inputs: Ports
    outputs: Ports
    _session: ort.InferenceSession | None = None
    _lock: Lock = field(default_factory=Lock)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[FloatArray]:
        """Feed arrays by input name; the outputs in the order of `outputs`."""
        session = self._loaded()
        try:
            results: list[FloatArray] = session.run(list(self.outputs), dict(feeds))
        except Exception as error:  # onnxruntime has no error class of its own
            raise BundleError(f"{self.path} failed to run: {error}; {CURE}") from error
        for name, result in zip(self.outputs, results, strict=True):
            self._check_port(name, self.outputs[name][1], result.shape)
            if not np.isfinite(result).all():
                raise BundleError(f"{self.path}: {name} is not finite; {CURE}")
        return results

    def _loaded(self) -> ort.InferenceSession:
        with self._lock:
            if self._session is None:
                self._session = self._load()
            return self._session

    def _load(self) -> ort.InferenceSession:
        try:
            session = ort.InferenceSession(
                str(self.path), _options(self.threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has no error class of its own
            raise BundleError(f"{self.path} does not load: {error}; {CURE}") from error
        self._check_ports("inputs", self.inputs, session.get_inputs(), exact=True)
        self._check_ports("outputs", self.outputs, session.get_outputs(), exact=False)
        return session

    def _check_ports(self, kind: str, wanted: Ports, found: Sequence[Any], *, exact: bool) -> None:
        by_name = {port.name: port for port in found}
        if not set(wanted) <= set(by_name) or (exact and len(wanted) != len(by_name)):
            raise BundleError(
                f"{self.path} has the {kind} {sorted(by_name)}, but needs {sorted(wanted)}; {CURE}"
            )
        for name, (element, shape) in wanted.items():
            if by_name[name].type != element:
                raise BundleError(
                    f"{self.path}: {name} is {by_name[name].type}, but must be {element}; {CURE}"
                )
            self._check_port(name, shape, by_name[name].shape)

    def _check_port(
        self, name: str, wanted: Sequence[int | None] | None, found: Sequence[int | str | None]
    ) -> None:
        """Compare sizes where both sides state one; a graph names free sizes by text."""
        if wanted is None:
            return
        fits = len(found) == len(wanted) and all(
            want is None or not isinstance(size, int) or size == want
            for want, size in zip(wanted, found, strict=True)
        )
        if not fits:
            raise BundleError(
                f"{self.path}: {name} has shape {list(found)}, but bundle.json says "
                f"{list(wanted)}; {CURE}"
            )


class _TextTower(NamedTuple):
    tokenizer: Tokenizer
    graph: OnnxGraph


def _text_tower(bundle: Bundle, spec: TextSpec, threads: int) -> _TextTower:
    length = spec.context_length if spec.pad == "max" else None
    graph = OnnxGraph(
        bundle.path(TEXT_FILE),
        threads,
        inputs={
            "input_ids": ("tensor(int64)", (None, length)),
            "attention_mask": ("tensor(int64)", (None, length)),
        },
        outputs={"embedding": ("tensor(float)", (None, bundle.manifest.embedding_dim))},
    )
    return _TextTower(Tokenizer.from_file(bundle.path(TOKENIZER_FILE), spec), graph)


CURE = "export the bundle again"


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; nothing belongs on stderr
    # Idle workers would otherwise spin on the cores that decode the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
