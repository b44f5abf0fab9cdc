"""From `preprocessor_config.json`, in its old and new spellings, to an `ImageSpec`.

Nothing is guessed: what the file does not say, says twice, or says in words that are not known here
is refused by name, for pixels that differ from those of the pretraining cost accuracy without a
word. Whether the values are usual for a family of models is the business of `published`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from miniclip.errors import BundleError, ConfigError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document

FILE = "preprocessor_config.json"
NESTED_FILE = "processor_config.json"  # of transformers 5: {"image_processor": {...}, ...}
_NESTED_KEY = "image_processor"

_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # the numbers of PIL.Image.Resampling
_CROPS_BY_FRACTION = "ConvNext"  # its processors scale to size / crop_pct, then cut
_NO_CROP_FROM = 384  # ... but from this size up they squash
_KEEPS_SHAPE = ("CLIP", "Bit", _CROPS_BY_FRACTION)  # of these, size: 224 means the shortest edge
_TYPE_KEYS = ("image_processor_type", "feature_extractor_type")
_READ = {
    *_TYPE_KEYS,
    *("size", "crop_size", "crop_pct", "do_center_crop", "do_resize", "resample"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
    *("patch_size", "max_num_patches"),
}
_HARMLESS = {  # they speak of the caller's arguments, of batching, or of pictures that are not RGB
    *("processor_class", "_processor_class", "_valid_processor_keys", "do_convert_rgb"),
    *("data_format", "input_data_format", "return_tensors", "device", "disable_grouping"),
    *("default_to_square", "image_seq_length", "backend", "auto_map"),
}


class _Geometry(NamedTuple):
    side: int
    resize: Literal["squash", "shortest", "patches"]
    resize_side: int
    patch: int | None = None


def read_preprocessor(directory: Path) -> Document:
    """Find what a checkpoint says of its pixels. BundleError for nothing, or two that differ."""
    plain = Document.read_if_there(directory / FILE)
    outer = Document.read_if_there(directory / NESTED_FILE)
    return choose_preprocessor(plain, outer, str(directory))


def choose_preprocessor(plain: Document | None, outer: Document | None, source: str) -> Document:
    """Take the content of FILE or of NESTED_FILE; errors as `read_preprocessor`."""
    nested = outer.part(_NESTED_KEY) if outer and outer.says(_NESTED_KEY) else None
    if plain and nested:
        for key in sorted(_READ - {*_TYPE_KEYS}):
            one, other = plain.values.get(key), nested.values.get(key)
            if one != other:
                raise BundleError(
                    f"{plain.where} says {key} = {one!r}, but {nested.where} says {other!r}; "
                    "keep the file that is right and remove the other"
                )
    found = nested or plain
    if found is None:
        raise BundleError(
            f"{source} has no {FILE}, which says how its pixels are made; "
            "put the one of the original model beside the weights"
        )
    return found


def image_spec_from(document: Document) -> ImageSpec:
    """Turn what a checkpoint says of its pixels into a spec. BundleError names what is amiss."""
    document.refuse_unknown(_READ | _HARMLESS | ({"do_pad"} - _switched_on(document)))
    _check_switch(document, "do_resize")
    _check_scale(document)
    geometry = _geometry(document)
    filter_number = document.need("resample")
    if type(filter_number) is not int or filter_number not in _FILTERS:
        raise document.foreign("resample", "1, 2 or 3")
    normalises = document.values.get("do_normalize")
    if normalises is None and not _is_old(document):
        document.need("do_normalize")
    if normalises is None or normalises is True:
        mean, std = document.need("image_mean"), document.need("image_std")
    elif normalises is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    else:
        raise document.foreign("do_normalize", "true or false")
    try:
        return ImageSpec.from_dict(
            {
                **geometry._asdict(),
                "interpolation": _FILTERS[filter_number],
                "mean": mean,
                "std": std,
            }
        )
    except ConfigError as error:
        raise BundleError(f"{document.where}: {error}") from error


def _is_old(document: Document) -> bool:
    """Before version 4.26 of transformers, rescaling to 0..1 went without saying."""
    return not document.says("image_processor_type") and not document.says("rescale_factor")


def _switched_on(document: Document) -> set[str]:
    return {key for key, value in document.values.items() if value not in (None, False)}


def _check_switch(document: Document, key: str) -> None:
    if document.need(key) is not True:
        raise document.foreign(key, "true")


def _check_scale(document: Document) -> None:
    if _is_old(document) and not document.says("do_rescale"):
        return
    _check_switch(document, "do_rescale")
    if abs(document.need_as("rescale_factor", float) * 255 - 1) > 1e-6:
        raise document.foreign("rescale_factor", "1/255")


def _geometry(document: Document) -> _Geometry:
    kind = next((str(document.values[key]) for key in _TYPE_KEYS if document.says(key)), "")
    if document.says("max_num_patches") or document.says("patch_size"):
        return _in_patches(document)
    size = document.need("size")
    if document.says("crop_pct") or _CROPS_BY_FRACTION in kind:
        return _cut_by_fraction(document)
    squashes = (
        {"height", "width"} == set(size)
        if isinstance(size, Mapping)
        else not (document.says("do_center_crop") and document.values["do_center_crop"])
        and not any(name in kind for name in _KEEPS_SHAPE)
    )
    edge = _edge(document, "size")
    if _crops(document):
        side = _edge(document, "crop_size")
        return _Geometry(side, "squash" if squashes else "shortest", edge)
    if not squashes:
        raise document.foreign("size", "a square, or do_center_crop with a crop_size")
    return _Geometry(edge, "squash", edge)


def _in_patches(document: Document) -> _Geometry:
    if document.says("size") or _crops(document):
        raise document.foreign("size", "no size and no crop beside max_num_patches")
    patch, most = (document.need_as(key, int) for key in ("patch_size", "max_num_patches"))
    if most < 1 or math.isqrt(most) ** 2 != most:
        raise document.foreign("max_num_patches", "a square, such as 256, 576 or 1024,")
    side = patch * math.isqrt(most)
    return _Geometry(side, "patches", side, patch)


def _crops(document: Document) -> bool:
    crops = document.values.get("do_center_crop")
    if crops is None and document.says("crop_size"):
        document.need("do_center_crop")
    if crops not in (None, True, False):
        raise document.foreign("do_center_crop", "true or false")
    return bool(crops)


def _cut_by_fraction(document: Document) -> _Geometry:
    if _crops(document):
        raise document.foreign("do_center_crop", "false beside crop_pct")
    side = _edge(document, "size")
    fraction = document.need_as("crop_pct", float)
    if side >= _NO_CROP_FROM:
        return _Geometry(side, "squash", side)
    if not 0 < fraction <= 1:
        raise document.foreign("crop_pct", "a share above 0, at most 1")
    return _Geometry(side, "shortest", int(side / fraction))


def _edge(document: Document, key: str) -> int:
    """Read 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    size: Any = document.need(key)
    if isinstance(size, Mapping) and set(size) not in ({"shortest_edge"}, {"height", "width"}):
        raise document.foreign(key, "a number, {shortest_edge} or {height, width}")
    edges = set(size.values()) if isinstance(size, Mapping) else {size}
    if len(edges) != 1 or not all(type(edge) is int and edge > 0 for edge in edges):
        raise document.foreign(key, "one whole number, or equal height and width")
    edge: int = edges.pop()
    return edge
