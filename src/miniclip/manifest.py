"""`Manifest`: what `bundle.json` says, typed and checked. It reads and writes text, never files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Self, TypeVar

from miniclip.errors import BundleError, MiniClipError
from miniclip.preprocess import ImageSpec
from miniclip.tokenizer import TextSpec

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1: always a text tower, and a parity of two cosines and `samples`
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_Spec = TypeVar("_Spec", ImageSpec, TextSpec)


@dataclass(frozen=True)
class Parity:
    """How near the graphs come to the model that they were made from, measured when written.

    image_cosine_min, text_cosine_min: the least cosine between a row of the model and the same row
    of the graph, in [-1, 1], over so many photos and sentences; image features count as well.
    image_max_abs, text_max_abs: the largest difference between numbers of their unit rows; None
    where it was not measured. The figures of texts are None, and sentences 0, without a text tower.
    limit: the cosine that the same rows must reach on every other machine (`pull.parity`).
    """

    image_cosine_min: float
    text_cosine_min: float | None
    photos: int
    sentences: int
    image_max_abs: float | None = None
    text_max_abs: float | None = None
    limit: float = 0.999

    def __post_init__(self) -> None:
        _check("parity.image_cosine_min", self.image_cosine_min, _is_cosine, "a cosine in [-1, 1]")
        _check("parity.photos", self.photos, _is_positive_int, "a whole number from 1 up")
        _check("parity.limit", self.limit, _is_cosine, "a cosine in [-1, 1]")
        _check("parity.sentences", self.sentences, _is_count, "a whole number from 0 up")
        text = _is_cosine if self.sentences else _is_none
        _check("parity.text_cosine_min", self.text_cosine_min, text, "a cosine, for sentences only")
        for key in ("image_max_abs", "text_max_abs"):
            value = getattr(self, key)
            _check(f"parity.{key}", value, _is_distance, "a number from 0 up, or null")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `asdict` gave, now or in format version 1. BundleError names a wrong key."""
        values = dict(values)
        if "samples" in values:
            values["photos"] = values["sentences"] = values.pop("samples")
        known = {entry.name: entry.default is not MISSING for entry in fields(cls)}
        optional = {name: None for name, has_default in known.items() if has_default}
        _exact_keys("parity.", optional | values, set(known))
        return cls(**values)


@dataclass(frozen=True)
class Manifest:
    """A model's card for machines.

    name:          letters, digits, dot, dash and underscore; also its directory's name.
    embedding_dim: D; feature_dim: F, of the image tower.
    feature_parts: how many of the F come from one layer, in order, the last layer's first; their
                   sum is F. Empty for all F from one.
    image, text:   how inputs are prepared; text is None for a model of images alone.
    logit_scale:   positive factor from cosine to logit; logit_bias: added after it.
    licence:       an SPDX expression where there is one.
    provenance:    free text by key, such as recipe, data, commit.
    weights:       how each tower's weights are stored, e.g. {"image": "float16"}.
    parity:        measured at export.

    Building one with an unusable value raises BundleError.
    """

    name: str
    embedding_dim: int
    feature_dim: int
    image: ImageSpec
    text: TextSpec | None
    logit_scale: float
    licence: str
    parity: Parity
    logit_bias: float = 0.0
    provenance: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    feature_parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check("name", self.name, _is_name, "letters, digits, '.', '-' or '_', not first a sign")
        _check("licence", self.licence, _is_text, "a non-empty text")
        for key in ("embedding_dim", "feature_dim"):
            _check(key, getattr(self, key), _is_positive_int, "a whole number from 1 up")
        parts = self.feature_parts
        wanted = f"whole numbers from 1 up whose sum is {self.feature_dim}"
        _check("feature_parts", parts, self._are_parts, wanted)
        object.__setattr__(self, "feature_parts", tuple(parts) or (self.feature_dim,))
        _check("logit_scale", self.logit_scale, _is_positive, "a positive number")
        _check("logit_bias", self.logit_bias, _is_number, "a finite number")
        _check("image", self.image, lambda value: isinstance(value, ImageSpec), "an ImageSpec")
        _check("text", self.text, _is_text_spec, "a TextSpec, or None for a model of images alone")
        _check("parity", self.parity, lambda value: isinstance(value, Parity), "a Parity")
        if bool(self.parity.sentences) is not bool(self.text):
            raise BundleError(
                f"parity.sentences is {self.parity.sentences}, but the model has "
                f"{'a' if self.text else 'no'} text tower; {RESTORE}"
            )
        for key in ("provenance", "weights"):
            _check(key, getattr(self, key), _is_text_table, "a table of texts by text")

    def _are_parts(self, parts: Any) -> bool:
        return isinstance(parts, list | tuple) and (
            not parts or (all(map(_is_positive_int, parts)) and sum(parts) == self.feature_dim)
        )

    def to_dict(self) -> dict[str, Any]:
        """Give every field by name, ready for JSON."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return plain | {
            "image": self.image.to_dict(),
            "text": self.text.to_dict() if self.text else None,
            "parity": asdict(self.parity),
            "provenance": dict(self.provenance),
            "weights": dict(self.weights),
            "feature_parts": list(self.feature_parts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; BundleError names the key that is missing, unknown or wrong."""
        values = {"feature_parts": (), **values}  # older bundles do not say it
        _exact_keys("", values, {entry.name for entry in fields(cls)})
        text = values["text"]
        return cls(
            **{
                **values,
                "image": _spec("image", ImageSpec.from_dict, values["image"]),
                "text": None if text is None else _spec("text", TextSpec.from_dict, text),
                "parity": Parity.from_dict(_table("parity", values["parity"])),
            }
        )


def write_manifest(manifest: Manifest, files: Mapping[str, str]) -> str:
    """Render `bundle.json`; files: name -> sha256 as 64 hex digits."""
    content = {"format_version": FORMAT_VERSION, **manifest.to_dict(), "files": dict(files)}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(text: str) -> tuple[Manifest, dict[str, str]]:
    """Inverse of `write_manifest`. BundleError says which key is wrong and what it should be."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BundleError(f"it is no JSON ({error}); {RESTORE}") from error
    content = dict(_table("the whole file", content))
    version = content.pop("format_version", None)
    if version not in READABLE_VERSIONS:
        raise BundleError(
            f"format_version is {version!r} and this miniclip reads 1 and {FORMAT_VERSION}; "
            "install the version of miniclip that wrote the bundle, or export it again"
        )
    files = content.pop("files", None)
    _check("files", files, _is_hash_table, "a table of sha256 hex digits by file name")
    return Manifest.from_dict(content), files


RESTORE = "fetch the bundle again or export it again"


def _check(key: str, value: Any, usable: Callable[[Any], bool], wanted: str) -> None:
    if not usable(value):
        raise BundleError(f"{key} is {value!r}, but must be {wanted}; {RESTORE}")


def _exact_keys(prefix: str, values: Mapping[str, Any], known: set[str]) -> None:
    for kind, keys in (("missing", known - set(values)), ("unknown", set(values) - known)):
        if keys:
            named = ", ".join(prefix + key for key in sorted(keys))
            raise BundleError(f"{kind} key {named}; {RESTORE}")


def _table(key: str, value: Any) -> Mapping[str, Any]:
    _check(key, value, lambda candidate: isinstance(candidate, dict), "a table")
    table: Mapping[str, Any] = value
    return table


def _spec(key: str, build: Callable[[Mapping[str, Any]], _Spec], value: Any) -> _Spec:
    try:
        return build(_table(key, value))
    except (MiniClipError, TypeError, ValueError) as error:
        raise BundleError(f"{key} is unusable ({error}); {RESTORE}") from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_cosine(value: Any) -> bool:
    return _is_number(value) and -1.001 <= value <= 1.001  # float32 sums may overshoot 1


def _is_positive_int(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_none(value: Any) -> bool:
    return value is None


def _is_distance(value: Any) -> bool:
    return value is None or (_is_number(value) and value >= 0)


def _is_text_spec(value: Any) -> bool:
    return value is None or isinstance(value, TextSpec)


def _is_text_table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(item, str) for pair in value.items() for item in pair
    )


def _is_hash_table(value: Any) -> bool:
    return _is_text_table(value) and all(
        re.fullmatch(r"[0-9a-f]{64}", digest) for digest in value.values()
    )
