"""From the tokenizer's files of a ready-made model to `tokenizer.json` and a `TextSpec`.

Every length and every special token that is said twice must be said alike; whatever is missing is
refused by name. It knows no graph, but what a graph says about tokens is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import Regex, normalizers

from miniclip.bundle import TOKENIZER_FILE
from miniclip.errors import BundleError
from miniclip.pull.documents import Document
from miniclip.tokenizer import Padding, TextSpec

CONFIG_FILE = "tokenizer_config.json"
_NO_LIMIT = 1_000_000  # tokenizers without one say 10^30
_SPACE = r"[\s\x1c-\x1f]+"  # where Python's str.split cuts
_PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""  # Python's string.punctuation


class Texts(NamedTuple):
    """content: of tokenizer.json."""

    content: bytes
    spec: TextSpec


@dataclass(frozen=True)
class Demands:
    """What a model asks of its tokens.

    pads: as `TextSpec.pad`; lengths: context lengths by who says so; exact: whether they must all
    be equal, or the least counts; ends: keys of the special tokens around every text, None where
    nobody says; rows: sizes of the vocabulary by who says so; of_clip: whether words become tokens
    as OpenAI's CLIP makes them, if by a BPE.
    """

    pads: Padding
    lengths: Mapping[str, int]
    exact: bool
    ends: Sequence[str] | None
    rows: Mapping[str, int]
    of_clip: bool = False


def read_texts(
    directory: Path, demands: Demands, *, clean: str | None = None, accept: Collection[str] = ()
) -> Texts:
    """Read tokenizer.json and tokenizer_config.json and hold them against the model.

    clean: what the original does to a text first: "whitespace" joins runs of spaces,
    "canonicalize" also drops punctuation and capitals; None for nothing. accept: keys whose unusual
    values are right. BundleError names what is missing, unknown or contradictory.
    """
    config = Document.read(directory / CONFIG_FILE)
    core = _read_core(directory / TOKENIZER_FILE)
    pad_id = _special_id(core, config, "pad_token")
    _check_ends(core, config, demands.ends)
    if "do_lower_case" not in accept:
        _check_case(core, config)
    if demands.of_clip:
        _check_words_of_clip(core, accept)
    _check_rows(core, demands.rows)
    spec = TextSpec(_context_length(demands), pad=demands.pads, pad_id=pad_id)
    if clean is not None:
        core.normalizer = _cleaned_first(core.normalizer, clean)
    core.no_padding()
    core.no_truncation()
    return Texts(core.to_str().encode(), spec)


def tokenizer_class(directory: Path) -> str:
    """Return the name that tokenizer_config.json gives, without "Fast"; "" where nobody says."""
    path = directory / CONFIG_FILE
    found = Document.read(path).values.get("tokenizer_class") if path.is_file() else ""
    return str(found or "").removesuffix("Fast")


def stated_length(config: Document) -> dict[str, int]:
    """Return what tokenizer_config.json says about the most tokens, if it says anything."""
    limit = config.values.get("model_max_length")
    if limit is None or (isinstance(limit, int | float) and limit > _NO_LIMIT):
        return {}
    return {f"{config.where}: model_max_length": config.need_as("model_max_length", int)}


def _read_core(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise BundleError(f"{path.parent} has no {path.name}; put the original model's one there")
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path} is no readable tokenizer ({error}); fetch it again") from error


def _special_id(core: tokenizers.Tokenizer, config: Document, key: str) -> int:
    token: Any = config.need(key)
    text = token.get("content") if isinstance(token, dict) else token
    found = core.token_to_id(text) if isinstance(text, str) else None
    if found is None:
        raise config.foreign(key, "a token that tokenizer.json has")
    return int(found)


def _check_ends(core: tokenizers.Tokenizer, config: Document, ends: Sequence[str] | None) -> None:
    """Compare the tokens of an empty text with those that the settings name."""
    ids = core.encode("").ids
    if ends is not None:
        wanted = [_special_id(core, config, key) for key in ends]
        if ids != wanted:
            raise BundleError(
                f"{TOKENIZER_FILE} turns an empty text into the tokens {ids}, but {config.where} "
                f"says {', '.join(ends)}, which are {wanted}; correct the one that is wrong"
            )
    for end, found in (("bos", ids[:1]), ("eos", ids[-1:])):
        if config.says(f"add_{end}_token"):
            adds = found == [_special_id(core, config, f"{end}_token")]
            if config.need_as(f"add_{end}_token", bool) is not adds:
                raise BundleError(
                    f"{config.where} says add_{end}_token = {not adds}, but {TOKENIZER_FILE} turns "
                    f"an empty text into the tokens {ids}; correct the one that is wrong"
                )


def _check_case(core: tokenizers.Tokenizer, config: Document) -> None:
    if config.says("do_lower_case"):
        lowers = core.encode("A DOG").ids == core.encode("a dog").ids
        if config.need_as("do_lower_case", bool) is not lowers:
            raise BundleError(
                f"{config.where} says do_lower_case = {config.values['do_lower_case']}, but "
                f"{TOKENIZER_FILE} {'lowers' if lowers else 'keeps'} capitals; correct the one "
                "that is wrong"
            )


def _check_words_of_clip(core: tokenizers.Tokenizer, accept: Collection[str]) -> None:
    """Refuse a BPE that does not treat words as all models of the kind do: no other file tells."""
    model = json.loads(core.to_str())["model"]
    if model["type"] != "BPE":
        return

    def ids(text: str) -> list[int]:
        return core.encode(text, add_special_tokens=False).ids

    holds = {
        "normalizer": "do_lower_case" in accept or ids("A DOG") == ids("a dog"),
        "pre_tokenizer": ids("a dog") == ids("a") + ids("dog"),
        "model.end_of_word_suffix": model["end_of_word_suffix"] == "</w>",
        "model.merges": bool(model["merges"]),
    }
    for part in (part for part, as_usual in holds.items() if not as_usual):
        raise BundleError(
            f"{TOKENIZER_FILE} makes other tokens than published models of the kind, which lower "
            f"capitals and take each word by itself; check its {part}"
        )


def _check_rows(core: tokenizers.Tokenizer, rows: Mapping[str, int]) -> None:
    if len(set(rows.values())) > 1:
        raise BundleError(f"sizes of the vocabulary differ: {_listed(rows)}; correct the wrong one")
    largest = max(core.get_vocab(with_added_tokens=True).values(), default=0)
    for who, size in rows.items():
        if largest >= size:
            raise BundleError(
                f"{TOKENIZER_FILE} has the token {largest}, but {who} knows {size} tokens; "
                "put the original model's tokenizer.json there"
            )


def _context_length(demands: Demands) -> int:
    lengths = demands.lengths
    if not lengths:
        raise BundleError(
            f"nothing says how many tokens a text may have; add model_max_length to {CONFIG_FILE}"
        )
    if demands.exact and len(set(lengths.values())) > 1:
        raise BundleError(
            f"context lengths differ: {_listed(lengths)}; correct the one that is wrong"
        )
    return min(lengths.values())


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{who} = {value}" for who, value in values.items())


def _cleaned_first(own: normalizers.Normalizer | None, clean: str) -> normalizers.Normalizer:
    steps = [normalizers.Replace(Regex(_SPACE), " "), normalizers.Strip()]
    if clean == "canonicalize":
        steps += [normalizers.Replace(Regex(_PUNCTUATION), ""), normalizers.Lowercase()]
    return normalizers.Sequence([*steps, *([own] if own else [])])
