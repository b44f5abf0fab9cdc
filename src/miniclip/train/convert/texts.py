"""From the tokenizer files of a checkpoint to `tokenizer.json` and a `TextSpec`.

The content is that of the original library's own fast tokenizer, without its padding and
truncation, which are `TextSpec`'s. Whether both give equal ids is checked by `check_tokens`.
"""

from __future__ import annotations

from pathlib import Path
from collections.abc import Sequence
from typing import Any, NamedTuple

from miniclip.errors import BundleError, ExportError
from miniclip.pull.documents import Document
from miniclip.tokenizer import TextSpec, Tokenizer
from miniclip.train.convert.families import Family
from miniclip.train.convert.original import Original

CONFIG_FILE = "tokenizer_config.json"


class Texts(NamedTuple):
    """content: of tokenizer.json; uses_mask: whether the original hands a mask to its model."""

    content: bytes
    spec: TextSpec
    uses_mask: bool


def read_texts(directory: Path, family: Family, tokenizer: Any, text_config: Document) -> Texts:
    """Read how texts become tokens. BundleError names what is missing or contradictory.

    tokenizer: the original library's, of the same directory.
    """
    config = Document.read(directory / CONFIG_FILE)
    length = config.need_as("model_max_length", int)
    positions = text_config.need_as("max_position_embeddings", int)
    if length > positions or (family.causal or family.pads == "max") and length != positions:
        raise BundleError(
            f"{config.where} says model_max_length = {length}, but {text_config.where} says "
            f"max_position_embeddings = {positions}; correct the one that is wrong"
        )
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        raise BundleError(
            f"the tokenizer of {directory} has no form as tokenizer.json; "
            "put a tokenizer.json beside the weights, or choose another checkpoint"
        )
    core.no_padding()
    core.no_truncation()
    spec = TextSpec(length, pad=family.pads, pad_id=tokenizer.pad_token_id)
    return Texts(
        core.to_str().encode(), spec, uses_mask="attention_mask" in tokenizer.model_input_names
    )


def check_tokens(tokenizer: Tokenizer, original: Original, sentences: Sequence[str]) -> None:
    """Refuse other ids than the original's. ExportError names the sentence."""
    for sentence in sentences:
        ids, mask = tokenizer([sentence])
        ours = ids[0].tolist() if tokenizer.spec.pad == "max" else ids[0, : mask.sum()].tolist()
        theirs = original.token_ids(sentence)
        if ours != theirs:
            raise ExportError(
                f"the tokens of {sentence[:60]!r} are {ours[:12]}..., but the original's are "
                f"{theirs[:12]}...; tokenizer.json and the tokenizer's other files contradict "
                "each other"
            )
