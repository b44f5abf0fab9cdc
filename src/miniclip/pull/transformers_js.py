"""Read models in the layout of transformers.js: config.json, tokenizer.json and a folder onnx/.

The towers lie in vision_model.onnx and text_model.onnx, or in one model.onnx that also computes the
logits. Editing the graphs is the business of `foreign_towers`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from miniclip.errors import BundleError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document
from miniclip.pull.foreign_towers import MASK, ForeignTower, load_graph
from miniclip.pull.image_specs import image_spec_from, read_preprocessor
from miniclip.pull.layouts import Precision, combined_files, graph_files, safetensors
from miniclip.pull.logits import Logits, logits_of_checkpoint, logits_of_graph, settle_logits
from miniclip.pull.ready_made import ReadyMade
from miniclip.pull.text_files import (
    CONFIG_FILE,
    Demands,
    read_texts,
    stated_length,
    tokenizer_class,
)
from miniclip.pull.usual_pixels import check_pixels
from miniclip.tokenizer import Padding

_PROJECTED = ("image_embeds", "text_embeds")
_POOLED = ("pooler_output", "pooler_output")


@dataclass(frozen=True)
class _Family:
    """What models of one `model_type` have in common.

    outputs: embeddings of images and texts; pads: as `TextSpec.pad`; causal: whether a token sees
    only those before it, so that padding needs no mask; ends: special tokens around every text,
    None where that varies.
    """

    ends: tuple[str, ...] | None
    outputs: tuple[tuple[str, str], ...] = (_PROJECTED,)
    pads: Padding = "longest"
    causal: bool = False


_FAMILIES = {
    "clip": _Family(("bos_token", "eos_token"), causal=True),
    "siglip": _Family(None, (_PROJECTED, _POOLED), pads="max"),
    "siglip2": _Family(None, (_PROJECTED, _POOLED), pads="max"),
    "chinese_clip": _Family(("cls_token", "sep_token")),
    "vision-text-dual-encoder": _Family(("cls_token", "sep_token")),
}


def read_transformers_js(
    directory: Path,
    names: Collection[str],
    precision: Precision,
    *,
    logit_scale: float | None = None,
    logit_bias: float | None = None,
    accept: Collection[str] = (),
) -> ReadyMade:
    """Read a model.

    accept: keys whose unusual values are right. BundleError names what is missing, unknown, unusual
    or contradictory.
    """
    config = Document.read(directory / "config.json")
    kind = config.need_as("model_type", str)
    if kind not in _FAMILIES:
        raise config.foreign("model_type", " or ".join(_FAMILIES))
    family = _FAMILIES[kind]
    images, texts = zip(*family.outputs, strict=True)
    image_file, text_file = (directory / name for name in graph_files(names, precision))
    text = ForeignTower.cut(text_file, texts)
    if family.pads == "longest" and not family.causal and MASK not in text.ports:
        raise BundleError(
            f"{text.where} takes no {MASK}, so that padding would change its vectors; "
            "choose an export that takes one"
        )
    preprocessor = read_preprocessor(directory)
    spec = image_spec_from(preprocessor)
    _check_side(config, spec)
    if config.says("miniclip"):  # written by `miniclip share`, which says the pixels twice
        if config.part("miniclip").values.get("image") != spec.to_dict():
            raise config.part("miniclip").foreign("image", f"what {preprocessor.where} says")
    else:
        vision = config.part("vision_config").values.get("model_type", kind)
        own = tokenizer_class(directory)
        check_pixels(str(vision), spec, preprocessor, accept, tokenizer=own)
    return ReadyMade(
        image=ForeignTower.cut(image_file, images),
        text=text,
        image_spec=spec,
        texts=read_texts(directory, _demands(directory, config, family, text), accept=accept),
        logits=settle_logits(_logits(directory, names), logit_scale, logit_bias),
        precision=precision,
        widths=_stated(config, "projection_dim") if config.says("projection_dim") else {},
    )


def _demands(directory: Path, config: Document, family: _Family, text: ForeignTower) -> Demands:
    table = config.part("text_config")
    lengths = {
        **_stated(table, "max_position_embeddings"),
        **stated_length(Document.read(directory / CONFIG_FILE)),
    }
    if text.length:
        lengths[text.where] = text.length
    rows = _stated(table, "vocab_size")
    if found := text.table_rows():
        rows[text.where] = found
    exact = family.causal or family.pads == "max" or text.length is not None
    pads: Padding = "max" if text.length else family.pads
    return Demands(pads, lengths, exact, family.ends, rows, of_clip=family.causal)


def _check_side(config: Document, spec: ImageSpec) -> None:
    table = config.part("vision_config")
    if table.says("image_size") and table.need_as("image_size", int) != spec.side:
        raise BundleError(
            f"{table.where} says image_size = {table.values['image_size']}, but the preprocessor "
            f"makes pictures of {spec.side}; correct the one that is wrong"
        )


def _stated(table: Document, key: str) -> dict[str, int]:
    return {f"{table.where}: {key}": table.need_as(key, int)} if table.says(key) else {}


def _logits(directory: Path, names: Collection[str]) -> Logits | None:
    for name in combined_files(names):
        if (directory / name).is_file():
            found = logits_of_graph(load_graph(directory / name, weights=False))
            if found:
                return found
    for name in safetensors(names):
        if found := logits_of_checkpoint(directory / name):
            return found
    return None
