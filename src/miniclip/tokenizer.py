"""Text to token ids: `TextSpec` says how long and how padded, `Tokenizer` does it.

The vocabulary, lower-casing and special tokens all live in `tokenizer.json` (the format of the
Hugging Face *tokenizers* library, which does the work). Training and runtime use this one copy.
It knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import tokenizers

from miniclip.arrays import IntArray
from miniclip.errors import ConfigError, TokenizerError

Padding = Literal["longest", "max"]

# Few different lengths T keep few different shapes in the runtime's memory plans.
LENGTH_STEP = 8


@dataclass(frozen=True)
class TextSpec:
    """How a text becomes tokens, beyond what `tokenizer.json` says.

    context_length: the most tokens of one text, special tokens included; the rest is cut off.
    pad:            "longest" pads a batch to its longest text, rounded up to a multiple of 8 but
                    never past `context_length`; "max" always pads to `context_length`.
    pad_id:         the token id that fills; masked out, so its value rarely matters.
    """

    context_length: int
    pad: Padding = "longest"
    pad_id: int = 0

    def __post_init__(self) -> None:
        for key, least in (("context_length", 1), ("pad_id", 0)):
            value = getattr(self, key)
            if type(value) is not int or value < least:
                raise ConfigError(
                    f"text spec: {key} is {value!r}; set it to a whole number from {least} up"
                )
        if self.pad not in get_args(Padding):
            raise ConfigError(f"text spec: pad is {self.pad!r}; set it to 'longest' or 'max'")

    def to_dict(self) -> dict[str, Any]:
        """Give every field by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`. ConfigError for a missing, unknown or ill-typed key."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
            raise ConfigError(
                f"text spec: missing keys {missing}, unknown keys {unknown}; "
                f"give exactly {sorted(known)}"
            )
        return cls(**values)


class Tokens(NamedTuple):
    """A padded batch.

    input_ids:      (B, T) int64, `pad_id` after the last token of a text.
    attention_mask: (B, T) int64, 1 where a token stands, 0 where padding does.
    """

    input_ids: IntArray
    attention_mask: IntArray


class Tokenizer:
    """Turns texts into `Tokens`; safe to share between threads, as it never changes."""

    def __init__(self, core: tokenizers.Tokenizer, spec: TextSpec) -> None:
        """Own `core` from here on: its truncation and padding are set from `spec`."""
        special = core.num_special_tokens_to_add(is_pair=False)
        if spec.context_length <= special:
            raise TokenizerError(
                f"context_length {spec.context_length} leaves no room beside the {special} special "
                "tokens of every text; raise it"
            )
        core.no_padding()
        core.enable_truncation(spec.context_length)
        self.spec = spec
        self._core = core

    @classmethod
    def from_file(cls, path: Path, spec: TextSpec) -> Self:
        """Read `tokenizer.json`. TokenizerError when it is absent or no tokenizer."""
        try:
            core = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for all of these
            raise TokenizerError(
                f"{path} is no readable tokenizer file ({error}); "
                "give a tokenizer.json as saved by the Hugging Face tokenizers library"
            ) from error
        return cls(core, spec)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """B texts to (B, T) tokens, in order; (0, T) for none.

        A text longer than the context is cut so that its closing special token stays. Half of a
        surrogate pair, which no encoding can carry, counts as U+FFFD. TokenizerError for anything
        but a sequence of strings.
        """
        encodings = self._core.encode_batch([_readable(text) for text in _checked(texts)])
        rows = [encoding.ids for encoding in encodings]
        length = self._padded_length(max(map(len, rows), default=0))
        input_ids = np.full((len(rows), length), self.spec.pad_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return Tokens(input_ids, attention_mask)

    def _padded_length(self, longest: int) -> int:
        if self.spec.pad == "max":
            return self.spec.context_length
        steps = max(1, -(-longest // LENGTH_STEP))
        return min(steps * LENGTH_STEP, self.spec.context_length)


def _checked(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str | bytes):
        raise TokenizerError(f"expected a list of texts, got the one text {texts!r}; wrap it in []")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TokenizerError(
                f"text {place} is {text!r} of type {type(text).__name__}; pass a str"
            )
    return texts


def _readable(text: str) -> str:
    """Join surrogate pairs and replace lone halves, which Rust strings cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
