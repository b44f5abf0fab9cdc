"""From the tokenizer files of a checkpoint to `tokenizer.json` and a `TextSpec`.

The content is that of the original library's own fast tokenizer, without its padding and
truncation, which are `TextSpec`'s. Whether both give equal ids is checked by `check_tokens`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers

from miniclip.bundle import TOKENIZER_FILE
from miniclip.errors import BundleError
from miniclip.pull.documents import Document
from miniclip.pull.probes import PROBE_SENTENCES
from miniclip.pull.usual_pixels import unusual
from miniclip.tokenizer import TextSpec, Tokenizer
from miniclip.train.convert.families import Family
from miniclip.train.convert.original import Original
from miniclip.train.convert.spiece import siglip_tokenizer

CONFIG_FILE = "tokenizer_config.json"
_CHANGES = (  # keys of it by which the library alters what tokenizer.json says
    *("tokenizer_class", "do_lower_case", "strip_accents", "tokenize_chinese_chars"),
    *("add_prefix_space", "add_bos_token", "add_eos_token"),
    *("bos_token", "eos_token", "unk_token", "cls_token", "sep_token", "added_tokens_decoder"),
)
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
_PADS = {"SiglipTokenizer": "</s>", "Siglip2Tokenizer": "<pad>"}
_NO_LIMIT = 1_000_000  # tokenizers without one say 10^30


class Texts(NamedTuple):
    """content: of tokenizer.json; uses_mask: whether the original hands a mask to its model."""

    content: bytes
    spec: TextSpec
    uses_mask: bool


def read_texts(
    directory: Path,
    family: Family,
    tokenizer: Any,
    text_config: Document,
    accept: Collection[str] = (),
) -> Texts:
    """Read how texts become tokens. BundleError names what is missing or contradictory.

    tokenizer: the original library's, of the same directory. text_config: what the library takes
    config.json to mean. accept: keys that may be unusual.
    """
    config = Document.read(directory / CONFIG_FILE)
    if family.pads == "max":
        config.need("model_input_names")
    _check_padding(family, tokenizer, config, accept)
    if not {"input_ids"} <= set(tokenizer.model_input_names) <= _INPUTS:
        raise config.foreign("model_input_names", f"input_ids and others of {sorted(_INPUTS)}")
    _check_vocabulary(tokenizer, text_config, accept)
    _check_special_ids(family, tokenizer, config, text_config, accept)
    core = _core(directory, tokenizer, config, accept)
    if (directory / TOKENIZER_FILE).is_file() and hasattr(tokenizer, "backend_tokenizer"):
        lowers = type(tokenizer).__name__ == "Siglip2Tokenizer"  # unlike the published file
        _check_file(directory / TOKENIZER_FILE, core, config, lowers=lowers)
    spec = TextSpec(
        _length(config, text_config, family), pad=family.pads, pad_id=tokenizer.pad_token_id
    )
    return Texts(
        core.to_str().encode(), spec, uses_mask="attention_mask" in tokenizer.model_input_names
    )


def _check_padding(
    family: Family, tokenizer: Any, config: Document, accept: Collection[str]
) -> None:
    """Refuse padding that a model sees and that is not of its kind."""
    if tokenizer.padding_side != "right" or tokenizer.truncation_side != "right":
        raise config.foreign("padding_side", "'right', and truncation_side 'right'")
    names = tokenizer.model_input_names
    if family.pads == "max":
        pad = _PADS.get(type(tokenizer).__name__, tokenizer.pad_token)
        if tokenizer.pad_token != pad and "pad_token" not in accept:
            raise unusual(config, "pad_token", pad)
    elif not (family.causal or "attention_mask" in names or "model_input_names" in accept):
        raise unusual(config, "model_input_names", "input_ids, attention_mask")


def _check_vocabulary(tokenizer: Any, text_config: Document, accept: Collection[str]) -> None:
    rows, words = text_config.need_as("vocab_size", int), len(tokenizer)
    if words > rows:
        specials = tokenizer.special_tokens_map
        late = [key for key in specials if getattr(tokenizer, f"{key}_id", 0) >= rows]
        raise BundleError(
            f"{text_config.where} says vocab_size = {rows}, but the tokenizer has {words} words; "
            + (f"check {', '.join(late)} in {CONFIG_FILE}" if late else "fetch the tokenizer again")
        )
    if words < rows and "vocab_size" not in accept:
        raise BundleError(
            f"{text_config.where} says vocab_size = {rows}, but the tokenizer has {words} words; "
            "fetch the tokenizer again, or accept vocab_size by name if spare rows are right"
        )


def _check_special_ids(
    family: Family,
    tokenizer: Any,
    config: Document,
    text_config: Document,
    accept: Collection[str],
) -> None:
    """Compare ids that both files state, where they decide: CLIP finds a text's end by its id."""
    keys = ("bos_token_id", "eos_token_id") if family.causal else ("pad_token_id",)
    if family.pads == "max" or _is_old_clip(family, tokenizer, text_config):
        return
    for key in keys:
        stated, actual = text_config.values.get(key), getattr(tokenizer, key)
        if stated != actual and key not in accept:
            raise BundleError(
                f"{text_config.where} means {key} = {stated}, but {config.where} says "
                f"{key.removesuffix('_id')} = {getattr(tokenizer, key.removesuffix('_id'))!r}, "
                f"whose id is {actual}; correct the one that is wrong"
            )


def _is_old_clip(family: Family, tokenizer: Any, text_config: Document) -> bool:
    """OpenAI's files say 0 and 2, wrongly; the library then takes the largest id for the end."""
    ids = [text_config.values.get(key) for key in ("bos_token_id", "eos_token_id")]
    return family.causal and ids == [0, 2] and tokenizer.eos_token_id == len(tokenizer) - 1


def _check_file(path: Path, core: tokenizers.Tokenizer, config: Document, *, lowers: bool) -> None:
    """Refuse a tokenizer.json that says one thing where the other files say another.

    The library changes what it reads by what tokenizer_config.json says. lowers: whether it may
    lower-case beyond the file.
    """
    written = tokenizers.Tokenizer.from_file(str(path))
    written.no_padding()
    written.no_truncation()
    for sentence in PROBE_SENTENCES:
        used = core.encode(sentence).ids
        readings = [sentence, sentence.lower()] if lowers else [sentence]
        if used not in [written.encode(reading).ids for reading in readings]:
            suspects = [key for key in _CHANGES if key in config.values]
            raise BundleError(
                f"{path.name} makes of {sentence[:40]!r} other tokens than the original library "
                f"does with the other files; check its normalizer, pre_tokenizer, post_processor "
                f"and model, and {', '.join(suspects)} in {config.where}"
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


def _core(
    directory: Path, tokenizer: Any, config: Document, accept: Collection[str]
) -> tokenizers.Tokenizer:
    if type(tokenizer).__name__ == "SiglipTokenizer":
        if not (tokenizer.do_lower_case or "do_lower_case" in accept):
            raise config.foreign("do_lower_case", "true, as of published models,")
        return siglip_tokenizer(tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise BundleError(
            f"the tokenizer of {directory} has no form as tokenizer.json; "
            "put a tokenizer.json beside the weights, or choose another checkpoint"
        )
    core = tokenizers.Tokenizer.from_str(backend.to_str())
    core.no_padding()
    core.no_truncation()
    return core


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
