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
from transformers import CONFIG_MAPPING

from miniclip.errors import BundleError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document
from miniclip.pull.image_specs import image_spec_from, read_preprocessor
from miniclip.pull.probes import PROBE_SENTENCES
from miniclip.pull.text_files import tokenizer_class
from miniclip.pull.usual_pixels import check_pixels
from miniclip.train.convert.families import FAMILIES, Family, FeatureHalf, ImageHalf, TextHalf
from miniclip.train.convert.naflex import NaflexHalf
from miniclip.train.convert.original import (
    ImageOriginal,
    Original,
    load_config,
    load_image_processor,
    load_model,
    load_tokenizer,
)
from miniclip.train.convert.texts import Texts, check_tokens, read_texts
from miniclip.train.convert.usual import check_alike, check_tower
from miniclip.train.convert.weights import check_weights
from miniclip.train.towers.image import TransformersImageTower

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """kind: the `model_type`. image, text: the halves, as `families` has them. original: the judge.

    texts, text: None for a model of images alone. assumed: defaults of the library that the files
    leave out and nothing proves.
    """

    kind: str
    image_spec: ImageSpec
    image: nn.Module
    original: Original
    texts: Texts | None = None
    text: nn.Module | None = None
    logit_scale: float = 1.0
    logit_bias: float = 0.0
    assumed: tuple[str, ...] = ()


def read_checkpoint(directory: Path, *, accept: Collection[str] = ()) -> Checkpoint:
    """Read a Hugging Face checkpoint.

    accept: keys whose unusual values are right. BundleError names the file and the key that is
    missing, unusual, or contradicts another.
    """
    config = Document.read(directory / CONFIG_FILE)
    kind = config.need_as("model_type", str)
    preprocessor = read_preprocessor(directory)
    spec = image_spec_from(preprocessor)
    vision = config.part("vision_config") if kind in FAMILIES else config
    tower = str(vision.values.get("model_type", kind))
    check_pixels(tower, spec, preprocessor, accept, tokenizer=tokenizer_class(directory))
    if kind in FAMILIES:
        return _two_towers(directory, kind, config, spec, accept)
    if kind not in CONFIG_MAPPING:
        raise config.foreign("model_type", "a type that transformers knows")
    return _images_alone(directory, kind, config, spec, accept)


def _two_towers(
    directory: Path, kind: str, config: Document, spec: ImageSpec, accept: Collection[str]
) -> Checkpoint:
    family = FAMILIES[kind]
    _check_architecture(config, family.model_class, accept)
    text, vision = (_part(config, key, accept) for key in ("text_config", "vision_config"))
    if not family.alike:  # each tower is of a type of its own
        text.need("model_type")
        vision.need("model_type")
    meant = load_config(directory)
    assumed = (
        *check_tower(text, meant.text_config, spec, accept, has_twin=family.alike),
        *check_tower(vision, meant.vision_config, spec, accept, has_twin=family.alike),
    )
    if family.alike:
        check_alike(text, vision, accept)
    if family.projects:
        config.need("projection_dim")
    loaded = load_model(directory, family.model_class)
    check_weights(loaded, config)
    model: Any = loaded.model
    meant_text = Document(text.where, meant.text_config.to_dict())
    texts = read_texts(directory, family, load_tokenizer(directory), meant_text, accept)
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
        _image_half(family, model, spec),
        original,
        texts,
        TextHalf(family, model, uses_mask=texts.uses_mask),
        logit_scale=float(model.logit_scale.exp()),
        logit_bias=float(model.logit_bias) if family.has_bias else 0.0,
        assumed=assumed,
    )


def _image_half(family: Family, model: Any, spec: ImageSpec) -> nn.Module:
    if spec.patch is None:
        return ImageHalf(family, model)
    return NaflexHalf(model, side=spec.side, patch=spec.patch)


def _images_alone(
    directory: Path, kind: str, config: Document, spec: ImageSpec, accept: Collection[str]
) -> Checkpoint:
    assumed = check_tower(config, load_config(directory), spec, accept)
    loaded = load_model(directory, "AutoModel")
    check_weights(loaded, config, heads_may_be_left=True)
    model: Any = loaded.model
    tower = TransformersImageTower(
        str(directory), model, spec, untrained=frozenset(loaded.untrained)
    )
    original = ImageOriginal(model, load_image_processor(directory), tower=tower)
    return Checkpoint(kind, spec, FeatureHalf(tower), original, assumed=assumed)


def _part(config: Document, key: str, accept: Collection[str]) -> Document:
    """Return the table of a tower; files of old have it twice, and the second one counts."""
    part = config.part(key)
    if config.says(f"{key}_dict"):
        twin = config.part(f"{key}_dict")
        for name in sorted(set(part.values) & set(twin.values) - set(accept)):
            if part.values[name] != twin.values[name]:
                raise BundleError(
                    f"{part.where} says {name} = {part.values[name]!r}, but {twin.where} says "
                    f"{twin.values[name]!r}; correct the one that is wrong"
                )
    return part


def _check_architecture(config: Document, wanted: str, accept: Collection[str]) -> None:
    if config.need("architectures") != [wanted] and "architectures" not in accept:
        raise config.foreign("architectures", f"[{wanted!r}] as of its model_type")
