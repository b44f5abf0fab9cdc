"""From the tokenizer files of a checkpoint to `tokenizer.json` and a `TextSpec`.

The content is that of the original library's own fast tokenizer, without its padding and
truncation, which are `TextSpec`'s. Whether both give equal ids is checked by `check_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from miniclip.errors import BundleError
from miniclip.pull.documents import Document
from miniclip.tokenizer import TextSpec, Tokenizer
from miniclip.train.convert.families import Family
from miniclip.train.convert.original import Original
from miniclip.train.convert.spiece import siglip_tokenizer

CONFIG_FILE = "tokenizer_config.json"
_NO_LIMIT = 1_000_000  # tokenizers without one say 10^30


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
    if family.pads == "max":
        config.need("model_input_names")
    if tokenizer.padding_side != "right" or tokenizer.truncation_side != "right":
        raise config.foreign("padding_side", "'right', and truncation_side 'right'")
    core = _core(directory, tokenizer)
    core.no_padding()
    core.no_truncation()
    spec = TextSpec(
        _length(config, text_config, family), pad=family.pads, pad_id=tokenizer.pad_token_id
    )
    return Texts(
        core.to_str().encode(), spec, uses_mask="attention_mask" in tokenizer.model_input_names
    )


def _length(config: Document, text_config: Document, family: Family) -> int:
    """Return the context length; a family that was trained at one length must say that one."""
    length = config.need_as("model_max_length", int)
    positions = text_config.need_as("max_position_embeddings", int)
    fixed = family.causal or family.pads == "max"
    if family.pads == "max" and length > _NO_LIMIT:
        return positions
    if length > positions or (fixed and length != positions):
        raise BundleError(
            f"{config.where} says model_max_length = {length}, but {text_config.where} says "
            f"max_position_embeddings = {positions}; correct the one that is wrong"
        )
    return length


def _core(directory: Path, tokenizer: Any) -> tokenizers.Tokenizer:
    if type(tokenizer).__name__ == "SiglipTokenizer":
        return siglip_tokenizer(tokenizer)
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        raise BundleError(
            f"the tokenizer of {directory} has no form as tokenizer.json; "
            "put a tokenizer.json beside the weights, or choose another checkpoint"
        )
    return tokenizers.Tokenizer.from_str(core.to_str())


def check_tokens(texts: Texts, original: Original, sentences: Sequence[str]) -> None:
    """Refuse other ids than the original's. BundleError names the sentence."""
    core = tokenizers.Tokenizer.from_str(texts.content.decode())
    tokenize = Tokenizer(core, texts.spec)
    for sentence in sentences:
        ids, mask = tokenize([sentence])
        ours = ids[0].tolist() if texts.spec.pad == "max" else ids[0, : mask.sum()].tolist()
        theirs = original.token_ids(sentence)
        if ours != theirs:
            raise BundleError(
                f"the tokens of {sentence[:60]!r} are {ours[:12]}..., but the original's are "
                f"{theirs[:12]}...; the files of this tokenizer cannot be written as a "
                "tokenizer.json, so choose another checkpoint"
            )
