"""From two towers in someone else's ONNX files to a bundle whose vectors are theirs; no torch.

The towers and their specs come from the readers of layouts. Nothing is written that was not held
against the towers as they came, on the probes of the parity record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from miniclip.arrays import FloatArray, unit_rows
from miniclip.bundle import CARD_FILE, IMAGE_FILE, TEXT_FILE, TOKENIZER_FILE, Bundle, write_bundle
from miniclip.cpus import usable_cpus
from miniclip.errors import BundleError
from miniclip.manifest import Manifest, Parity
from miniclip.onnx_encoder import OnnxEncoder, OnnxGraph
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.pull.foreign_towers import MASK, PIXELS, SEGMENTS, TOKENS, ForeignTower
from miniclip.pull.layouts import Precision
from miniclip.pull.logits import Logits
from miniclip.pull.parity import MIN_COSINE, MIN_LOSSY_COSINE, ProbeVectors, write_parity
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos
from miniclip.pull.text_files import Texts
from miniclip.tokenizer import Tokenizer

LEAST_COSINE: Mapping[Precision, float] = {
    "float32": MIN_COSINE,
    "float16": MIN_LOSSY_COSINE,
    # Activations are rounded by the largest of the whole batch, so that company matters a little.
    "int8": 0.95,
}
_OUTPUTS = ("ours/embedding", "ours/features")
_UNMEASURED = Parity(image_cosine_min=0.0, text_cosine_min=0.0, photos=1, sentences=1)


@dataclass(frozen=True)
class ReadyMade:
    """A model as its files say. widths: the embedding's, by who says so."""

    image: ForeignTower
    text: ForeignTower
    image_spec: ImageSpec
    texts: Texts
    logits: Logits
    precision: Precision
    widths: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Label:
    """What a bundle says about itself beyond what is measured; card: the text of model_card.md."""

    name: str
    licence: str
    provenance: Mapping[str, str]
    card: str | None = None


def bundle_of(
    model: ReadyMade,
    out: Path | str,
    label: Label,
    *,
    original: Callable[[], tuple[FloatArray, FloatArray]] | None = None,
) -> Bundle:
    """Write a bundle. BundleError for contradictions, ExportError where vectors differ.

    original: gives the unit rows of the probe photos (P, D) and sentences (Q, D), where the towers
    were exported just now from a model that can still be asked; None to believe the towers.
    """
    with tempfile.TemporaryDirectory(prefix="miniclip-pull-") as folder:
        files = _graph_files(model, Path(folder))
        expected = _ask(model, Path(folder))
        if original is not None:
            images, texts = original()
            expected = replace(expected, images=images, texts=texts)
        embedding_dim = expected.images.shape[1]
        for who, width in model.widths.items():
            if width != embedding_dim:
                raise BundleError(
                    f"{who} is {width}, but {model.image.where} gives {embedding_dim} numbers; "
                    "correct the one that is wrong"
                )
        files[TOKENIZER_FILE] = model.texts.content
        if label.card is not None:
            files[CARD_FILE] = label.card.encode()
        manifest = Manifest(
            name=label.name,
            embedding_dim=embedding_dim,
            feature_dim=expected.features.shape[1],
            image=model.image_spec,
            text=model.texts.spec,
            logit_scale=model.logits.scale,
            logit_bias=model.logits.bias,
            licence=label.licence,
            provenance=label.provenance,
            weights={"image": model.precision, "text": model.precision},
            parity=_UNMEASURED,
        )
        trial = write_bundle(Path(folder, "trial"), manifest=manifest, files=files)
        return write_parity(
            out, trial, expected, OnnxEncoder.open(trial), least=LEAST_COSINE[model.precision]
        )


def _graph_files(model: ReadyMade, folder: Path) -> dict[str, Path | bytes]:
    """Write the graphs one after the other: large ones would fill the memory together."""
    files: dict[str, Path | bytes] = {
        IMAGE_FILE: folder / IMAGE_FILE,
        TEXT_FILE: folder / TEXT_FILE,
    }
    onnx.save(model.image.image_graph(model.image_spec.side), files[IMAGE_FILE])
    onnx.save(model.text.text_graph(), files[TEXT_FILE])
    return files


def _ask(model: ReadyMade, folder: Path) -> ProbeVectors:
    """Run the towers as they came, on one probe at a time."""
    with _running(model.image, folder) as run:
        pixels = (preprocess(photo, model.image_spec)[None] for photo in probe_photos())
        images, features = _stacked([run({PIXELS: some}) for some in pixels], model.image)
    tokenizer = _tokenizer(model.texts, folder)
    with _running(model.text, folder) as run:
        rows = [run(_tokens(tokenizer, sentence)) for sentence in PROBE_SENTENCES]
        texts, _ = _stacked(rows, model.text)
    if texts.shape[1] != images.shape[1]:
        raise BundleError(
            f"{model.image.where} gives {images.shape[1]} numbers, but {model.text.where} gives "
            f"{texts.shape[1]}; take both from the same model"
        )
    return ProbeVectors(unit_rows(images), features, unit_rows(texts))


def _tokens(tokenizer: Tokenizer, sentence: str) -> dict[str, NDArray[Any]]:
    """One text without padding, unless the model always has it."""
    ids, mask = tokenizer([sentence])
    kept = ids.shape[1] if tokenizer.spec.pad == "max" else max(1, int(mask.sum()))
    return {
        TOKENS: ids[:, :kept],
        MASK: mask[:, :kept],
        SEGMENTS: np.zeros_like(ids[:, :kept]),
    }


@contextmanager
def _running(tower: ForeignTower, folder: Path) -> Iterator[Any]:
    """Yield a function from inputs by our names to embedding and features; the file goes after."""
    path = folder / tower.where.replace("/", "-")
    onnx.save(tower.as_it_came(), path)
    graph = OnnxGraph(
        path,
        usable_cpus(),
        inputs={
            port.name: (f"tensor({_ELEMENT_NAMES[port.element]})", (None,) * len(port.shape))
            for port in tower.ports.values()
        },
        outputs=dict.fromkeys(_OUTPUTS, ("tensor(float)", (None, None))),
    )

    def run(feeds: Mapping[str, NDArray[Any]]) -> list[FloatArray]:
        return graph.run(
            {
                port.name: feeds[name].astype(_ELEMENT_TYPES[port.element])
                for name, port in tower.ports.items()
            }
        )

    yield run
    path.unlink()


_ELEMENT_NAMES = {
    TensorProto.FLOAT: "float",
    TensorProto.FLOAT16: "float16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}
_ELEMENT_TYPES = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}


def _stacked(rows: Sequence[Sequence[FloatArray]], tower: ForeignTower) -> list[FloatArray]:
    try:
        return [np.concatenate(column) for column in zip(*rows, strict=True)]
    except ValueError as error:
        raise BundleError(f"{tower.where} gives no rows of one width ({error})") from error


def _tokenizer(texts: Texts, folder: Path) -> Tokenizer:
    path = folder / TOKENIZER_FILE
    path.write_bytes(texts.content)
    return Tokenizer.from_file(path, texts.spec)
