"""From a trained model to a bundle: trace, store, run through the real encoder, compare, write.

Nothing is written that was not measured. Tracing is done by `onnx_graphs`, storage by
`small_weights`, the comparison by `miniclip.pull.parity`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import onnx

from miniclip.bundle import (
    CARD_FILE,
    IMAGE_FILE,
    PARITY_FILE,
    TEXT_FILE,
    TOKENIZER_FILE,
    Bundle,
    write_bundle,
)
from miniclip.encoder import Encoder
from miniclip.errors import ExportError
from miniclip.manifest import Manifest, Parity
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.pull.parity import compare, encode_probes
from miniclip.train.export.onnx_graphs import image_graph, ready_to_export, text_graph
from miniclip.train.export.parity import model_vectors
from miniclip.train.export.small_weights import Storage, shrink
from miniclip.train.model import TwoTower

MIN_COSINE = 0.9999  # of the float32 graphs: what is left is the order of sums
MIN_SMALL_COSINE = 0.95  # of graphs with smaller weights; below, something broke
MAX_DROP = 0.003  # of a score from 0 to 1, for the sake of size


class Weights(NamedTuple):
    """How the weights of each tower are stored."""

    image: Storage = "float16"
    text: Storage = "int8-embeddings"


FULL = Weights("float32", "float32")
CANDIDATES = (  # from the smallest; int8 costs small convolutional networks most
    Weights("float16", "int8"),
    Weights("float16", "int8-embeddings"),
    Weights("float16", "float16"),
)


@dataclass(frozen=True)
class Label:
    """What a bundle says about itself beyond what is measured.

    name: as `Manifest.name`; licence: an SPDX expression; provenance: free text by key;
    card: the text of model_card.md, or None for no card.
    """

    name: str
    licence: str
    provenance: Mapping[str, str]
    card: str | None = None


def export_model(
    model: TwoTower, directory: Path | str, *, label: Label, weights: Weights | None = None
) -> Bundle:
    """Write a model as a bundle, stored as asked (None: as `Weights()` says).

    ExportError, and nothing written, when the float32 graphs and the model differ by a cosine below
    0.9999 on any sample, or the stored ones by one below 0.95.
    """
    with _staged(model, label) as stage:
        return stage.write(directory, stage.store(weights or Weights()))


def export_smallest(
    model: TwoTower,
    directory: Path | str,
    *,
    label: Label,
    score: Callable[[Encoder], float],
    candidates: Sequence[Weights] = CANDIDATES,
    max_drop: float = MAX_DROP,
) -> Bundle:
    """Write a model with the first of the candidates that costs too little to matter.

    score: quality of an encoder from 0 to 1, higher is better, such as Recall on a dev split.
    A candidate is kept when its score is less than `max_drop` below that of the float32 graphs;
    when none is, those are written. The bundle's provenance tells the scores, under
    "weights_verdict". ExportError as `export_model`.
    """
    with _staged(model, label) as stage:
        kept = stage.store(FULL)
        best = score(kept.encoder)
        verdicts = []
        for weights in candidates:
            try:
                small = stage.store(weights)
            except ExportError as error:
                verdicts.append(f"{'+'.join(weights)} refused ({error})")
                continue
            reached = score(small.encoder)
            verdicts.append(f"{'+'.join(weights)} {reached:.4f}")
            if best - reached < max_drop:
                kept = small
                break
        verdict = (
            f"kept {'+'.join(kept.weights)}; score: float32 {best:.4f}, {', '.join(verdicts)}; "
            f"allowed drop below {max_drop:g}"
        )
        return stage.write(directory, kept, {"weights_verdict": verdict})


class _Stored(NamedTuple):
    """A bundle in the staging directory, and the encoder that runs it."""

    weights: Weights
    bundle: Bundle
    encoder: Encoder


class _Stage:
    """The traced graphs of one model and a directory to try bundles in."""

    def __init__(self, model: TwoTower, label: Label, directory: Path) -> None:
        self._model = ready_to_export(model)
        self._label = label
        self._directory = directory
        self._expected = model_vectors(self._model)
        self._graphs = (image_graph(self._model), text_graph(self._model))
        self._trials: dict[Weights, _Stored] = {}

    def proved(self) -> Self:
        """Refuse graphs that differ from the model before anything is rounded."""
        self.store(FULL)
        return self

    def store(self, weights: Weights) -> _Stored:
        """Write a trial bundle, once, and measure it."""
        if weights not in self._trials:
            self._trials[weights] = self._tried(weights)
        return self._trials[weights]

    def write(
        self, directory: Path | str, stored: _Stored, remarks: Mapping[str, str] | None = None
    ) -> Bundle:
        """Write the final bundle from a trial one."""
        manifest = stored.bundle.manifest
        provenance = {**manifest.provenance, **(remarks or {})}
        graphs = {name: stored.bundle.path(name) for name in stored.bundle.files}
        return write_bundle(
            directory,
            manifest=replace(manifest, provenance=provenance),
            files={**graphs, PARITY_FILE: self._expected.to_bytes()},
        )

    def _tried(self, weights: Weights) -> _Stored:
        directory = self._directory / "-".join(weights)
        unmeasured = Parity(image_cosine_min=0.0, text_cosine_min=0.0, photos=1, sentences=1)
        manifest = self._manifest(weights, unmeasured)
        graphs = [shrink(g, w) for g, w in zip(self._graphs, weights, strict=True)]
        bundle = write_bundle(directory, manifest=manifest, files=self._files(graphs))
        encoder = OnnxEncoder.open(bundle)
        least = MIN_COSINE if weights == FULL else MIN_SMALL_COSINE
        parity = compare(self._expected, encode_probes(encoder), least=least)
        return _Stored(weights, replace(bundle, manifest=replace(manifest, parity=parity)), encoder)

    def _manifest(self, weights: Weights, parity: Parity) -> Manifest:
        model = self._model
        return Manifest(
            name=self._label.name,
            embedding_dim=model.embedding_dim,
            feature_dim=sum(model.feature_parts),
            feature_parts=model.feature_parts,
            image=model.image_tower.image_spec,
            text=model.text_tower.text_spec,
            logit_scale=float(model.scale),
            logit_bias=float(model.bias),
            licence=self._label.licence,
            provenance=dict(self._label.provenance),
            weights=weights._asdict(),
            parity=parity,
        )

    def _files(self, graphs: Iterable[onnx.ModelProto]) -> dict[str, Path | bytes]:
        image, text = (graph.SerializeToString() for graph in graphs)
        files: dict[str, Path | bytes] = {
            IMAGE_FILE: image,
            TEXT_FILE: text,
            TOKENIZER_FILE: self._model.text_tower.tokenizer_path,
        }
        if self._label.card is not None:
            files[CARD_FILE] = self._label.card.encode()
        return files


@contextmanager
def _staged(model: TwoTower, label: Label) -> Iterator[_Stage]:
    with tempfile.TemporaryDirectory(prefix="miniclip-export-") as directory:
        yield _Stage(model, label, Path(directory)).proved()
