"""SigLIP's tokenizer, which the original library has in Python alone, as a `tokenizer.json`.

It lower-cases, drops ASCII punctuation, joins white space, and cuts with a SentencePiece unigram
model (big_vision's `canonicalize_text`, then the `spiece.model` beside the weights). The rules are
written down for the *tokenizers* library; `texts.check_tokens` proves that the ids are the same.
"""

from __future__ import annotations

import string
import sys
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from miniclip.errors import BundleError, MissingExtraError

_SPACE = "▁"  # what SentencePiece writes for a space
_WHITE = "".join(sign for sign in map(chr, range(sys.maxunicode)) if sign.isspace())
_FINAL_SIGMA = r"(?<=\p{L})Σ(?!\p{L})"  # Python lower-cases it by its place, Rust does not
_END, _UNKNOWN = "\ue001", "\ue002"  # stand for the special tokens, in case a text spells them
_NOBODY = "\ue003"
_UNIGRAM = 1


def siglip_tokenizer(slow: Any) -> Tokenizer:
    """Write down a `SiglipTokenizer`. BundleError for a model of another kind."""
    proto = _parsed(slow.sp_model.serialized_model_proto())
    if proto.trainer_spec.model_type != _UNIGRAM:
        raise BundleError(
            "spiece.model is no unigram model, so it is not SigLIP's; "
            "put a tokenizer.json beside the weights"
        )
    signs = {slow.eos_token_id: _END, slow.unk_token_id: _UNKNOWN}
    pieces = [(signs.get(place, p.piece), p.score) for place, p in enumerate(proto.pieces)]
    core = Tokenizer(models.Unigram(pieces, slow.unk_token_id, proto.trainer_spec.byte_fallback))
    core.normalizer = normalizers.Sequence(_steps(slow, proto.normalizer_spec))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="never")
    core.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, slow.eos_token_id)]
    )
    return core


def _steps(slow: Any, spec: Any) -> list[normalizers.Normalizer]:
    """Write one step for each of Python's, special tokens first, in the order of the original."""
    punctuation = "".join(f"\\x{ord(sign):02x}" for sign in string.punctuation)
    replace = normalizers.Replace
    steps: list[normalizers.Normalizer] = [
        replace(Regex(f"[{_END}{_UNKNOWN}]"), _NOBODY),
        replace(slow.eos_token, _END),
        replace(slow.unk_token, _UNKNOWN),
        replace(_SPACE, " "),
    ]
    if slow.do_lower_case:
        steps += [replace(Regex(_FINAL_SIGMA), "ς"), normalizers.Lowercase()]
    steps += [replace(Regex(f"[{punctuation}]"), ""), replace(Regex(f"[{_WHITE}]+"), " ")]
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    return [
        *steps,
        replace(Regex(" {2,}"), " "),
        replace(Regex(f" (?=[{_END}{_UNKNOWN}])|(?<=[{_END}{_UNKNOWN}]) |^ | $"), ""),
        normalizers.Prepend(_SPACE),
        replace(Regex(f"^{_SPACE}(?=[{_END}{_UNKNOWN}])"), ""),
    ]


def _parsed(content: bytes) -> Any:
    try:
        from sentencepiece import sentencepiece_model_pb2  # noqa: PLC0415 -- for SigLIP alone
    except ImportError as error:
        raise MissingExtraError("a spiece.model without a tokenizer.json", "train") from error
    return sentencepiece_model_pb2.ModelProto.FromString(content)
