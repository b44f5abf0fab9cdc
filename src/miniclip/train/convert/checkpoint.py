"""`Checkpoint`: all that a bundle needs of a directory of files, read and checked.

Every file is read here, and nothing is traced: what contradicts something else is refused before
the slow part begins.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document
from miniclip.pull.image_specs import image_spec_from, read_preprocessor
from miniclip.pull.probes import PROBE_SENTENCES
from miniclip.train.convert.families import FAMILIES, FeatureHalf, ImageHalf, TextHalf
from miniclip.train.convert.original import (
    ImageOriginal,
    Original,
    load_image_processor,
    load_model,
    load_tokenizer,
)
from miniclip.train.convert.texts import Texts, check_tokens, read_texts
from miniclip.train.convert.weights import check_weights
from miniclip.train.towers.image import TransformersImageTower

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """kind: the `model_type`. image, text: the halves, as `families` has them. original: the judge.

    texts, text: None for a model of images alone.
    """

    kind: str
    image_spec: ImageSpec
    image: nn.Module
    original: Original
    texts: Texts | None = None
    text: nn.Module | None = None
    logit_scale: float = 1.0
    logit_bias: float = 0.0


def read_checkpoint(directory: Path, *, accept: Collection[str] = ()) -> Checkpoint:
    """Read a Hugging Face checkpoint.

    accept: keys whose unusual values are right. BundleError names the file and the key that is
    missing, unusual, or contradicts another.
    """
    config = Document.read(directory / CONFIG_FILE)
    preprocessor = read_preprocessor(directory)
    spec = image_spec_from(preprocessor)
    kind = config.need_as("model_type", str)
    if kind not in FAMILIES:
        return _image_checkpoint(directory, kind, spec)
    return _two_towers(directory, kind, config, spec)


def _two_towers(directory: Path, kind: str, config: Document, spec: ImageSpec) -> Checkpoint:
    family = FAMILIES[kind]
    loaded = load_model(directory, family.model_class)
    check_weights(loaded, config)
    model: Any = loaded.model
    texts = read_texts(directory, family, load_tokenizer(directory), config.part("text_config"))
    original = Original(
        model,
        load_image_processor(directory),
        load_tokenizer(directory),
        pads=family.pads,
        context_length=texts.spec.context_length,
    )
    check_tokens(texts, original, PROBE_SENTENCES)
    return Checkpoint(
        kind,
        spec,
        ImageHalf(family, model),
        original,
        texts,
        TextHalf(family, model, uses_mask=texts.uses_mask),
        logit_scale=float(model.logit_scale.exp()),
        logit_bias=float(model.logit_bias) if family.has_bias else 0.0,
    )


def _image_checkpoint(directory: Path, kind: str, spec: ImageSpec) -> Checkpoint:
    loaded = load_model(directory, "AutoModel")
    check_weights(loaded, Document.read(directory / CONFIG_FILE), heads_may_be_left=True)
    tower = TransformersImageTower(
        str(directory), loaded.model, spec, untrained=frozenset(loaded.untrained)
    )
    original = ImageOriginal(loaded.model, load_image_processor(directory), tower=tower)
    return Checkpoint(kind, spec, FeatureHalf(tower), original)
