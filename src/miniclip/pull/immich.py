"""Read models in the layout of Immich: exports of OpenCLIP in two folders, visual/ and textual/.

config.json, visual/preprocess_cfg.json and the tokenizer's files are those of OpenCLIP and its
tokenizers. The layout has no word on the logits' scale. Editing graphs: `foreign_towers`.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from miniclip.errors import BundleError, ConfigError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document
from miniclip.pull.foreign_towers import MASK, ForeignTower
from miniclip.pull.layouts import Precision, immich_graphs
from miniclip.pull.logits import settle_logits
from miniclip.pull.ready_made import ReadyMade
from miniclip.pull.text_files import Demands, read_texts
from miniclip.pull.usual_pixels import check_pixels_of_open_clip
from miniclip.tokenizer import Padding

_READ = {"size", "mode", "mean", "std", "interpolation", "resize_mode"}
_HARMLESS = {"fill_color"}  # of pictures that are padded, which squares never are
_CLEANING = ("whitespace", "canonicalize")


def read_immich(
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
    image_file, text_file = (directory / name for name in immich_graphs(names, precision))
    config = Document.read(directory / "config.json")
    words = config.part("text_cfg")
    pixels = Document.read(directory / "visual" / "preprocess_cfg.json")
    spec = _image_spec(pixels)
    check_pixels_of_open_clip(spec, pixels, accept)
    vision = config.part("vision_cfg")
    if _side(vision, "image_size") != spec.side:
        raise BundleError(
            f"{vision.where} says image_size = {vision.values['image_size']}, but "
            f"preprocess_cfg.json makes pictures of {spec.side}; correct the one that is wrong"
        )
    text = ForeignTower.cut(text_file)
    return ReadyMade(
        image=ForeignTower.cut(image_file),
        text=text,
        image_spec=spec,
        texts=read_texts(
            directory / "textual", _demands(words, text), clean=_cleaning(words), accept=accept
        ),
        logits=settle_logits(None, logit_scale, logit_bias),
        precision=precision,
        widths={f"{config.where}: embed_dim": config.need_as("embed_dim", int)},
    )


def _image_spec(config: Document) -> ImageSpec:
    config.refuse_unknown(_READ | _HARMLESS)
    if config.need("mode") != "RGB":
        raise config.foreign("mode", "RGB")
    if config.need("resize_mode") not in ("shortest", "squash"):
        raise config.foreign("resize_mode", "shortest or squash")
    side = _side(config, "size")
    try:
        return ImageSpec(
            side=side,
            resize=config.need("resize_mode"),
            resize_side=side,
            interpolation=config.need("interpolation"),
            mean=config.need("mean"),
            std=config.need("std"),
        )
    except ConfigError as error:
        raise BundleError(f"{config.where}: {error}") from error


def _side(config: Document, key: str) -> int:
    """Read 224 or [224, 224]."""
    size: Any = config.need(key)
    sides = set(size) if isinstance(size, list) and len(size) == 2 else {size}
    if len(sides) != 1 or not all(type(side) is int and side > 0 for side in sides):
        raise config.foreign(key, "one whole number, or twice the same")
    side: int = sides.pop()
    return side


def _demands(words: Document, text: ForeignTower) -> Demands:
    lengths = {f"{words.where}: context_length": words.need_as("context_length", int)}
    if text.length:
        lengths[text.where] = text.length
    rows = {}
    if words.says("vocab_size") and MASK not in text.ports:  # else text_cfg is of another tower
        rows[f"{words.where}: vocab_size"] = words.need_as("vocab_size", int)
    if found := text.table_rows():
        rows[text.where] = found
    pads: Padding = "max"
    of_clip = not words.says("hf_tokenizer_name")
    return Demands(pads, lengths, exact=True, ends=None, rows=rows, of_clip=of_clip)


def _cleaning(words: Document) -> str:
    """Texts are always freed of runs of spaces; some models were trained without punctuation."""
    if not words.says("tokenizer_kwargs"):
        return "whitespace"
    options = words.part("tokenizer_kwargs")
    options.refuse_unknown({"clean"})
    if options.need("clean") not in _CLEANING:
        raise options.foreign("clean", " or ".join(_CLEANING))
    return str(options.values["clean"])
