"""From `preprocessor_config.json`, in its old and new spellings, to an `ImageSpec`.

Nothing is guessed: what the file does not say is refused by name, for pixels that differ from those
of the pretraining cost accuracy without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miniclip.errors import TrainingError
from miniclip.preprocess import ImageSpec
from miniclip.train.towers.hub import read_json

FILE = "preprocessor_config.json"
_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # the numbers of PIL.Image.Resampling
_CROPS_BY_FRACTION = "ConvNext"  # its processors scale to size / crop_pct, then cut
_NO_CROP_FROM = 384  # ... but from this size up they squash


def read_image_spec(source: str) -> ImageSpec:
    """Read the pixels that a checkpoint expects. TrainingError names what is missing or foreign."""
    config = read_json(source, FILE)
    if config is None:
        raise TrainingError(
            f"{source} has no {FILE}, which says how its pixels are made; "
            "put the one of the original model beside the weights"
        )
    return image_spec_from(config, source)


def image_spec_from(config: Mapping[str, Any], source: str) -> ImageSpec:
    """Turn the content of a `preprocessor_config.json` into a spec; source is for messages."""
    side, resize, resize_side = _geometry(config, source)
    filter_number = _needed(config, "resample", source)
    if filter_number not in _FILTERS:
        raise _foreign("resample", filter_number, source, "1, 2 or 3")
    scale = config.get("rescale_factor", 1 / 255)
    if not config.get("do_rescale", True) or abs(scale * 255 - 1) > 1e-3:
        raise _foreign("rescale_factor", scale, source, "1/255")
    normalises = config.get("do_normalize", True)
    mean = _needed(config, "image_mean", source) if normalises else (0.0,) * 3
    std = _needed(config, "image_std", source) if normalises else (1.0,) * 3
    return ImageSpec.from_dict(
        {
            "side": side,
            "resize": resize,
            "resize_side": resize_side,
            "interpolation": _FILTERS[filter_number],
            "mean": mean,
            "std": std,
        }
    )


def _geometry(config: Mapping[str, Any], source: str) -> tuple[int, str, int]:
    """Return side, resize rule and resize side."""
    size = _needed(config, "size", source)
    crops = config.get("do_center_crop", False) or "crop_pct" in config
    by_fraction = "crop_pct" in config or _CROPS_BY_FRACTION in str(
        config.get("image_processor_type", config.get("feature_extractor_type", ""))
    )
    if by_fraction:
        side = _edge(size, "size", source)
        if side >= _NO_CROP_FROM:
            return side, "squash", side
        return side, "shortest", int(side / _needed(config, "crop_pct", source))
    if crops:
        side = _edge(_needed(config, "crop_size", source), "crop_size", source)
        return side, "shortest", _edge(size, "size", source)
    if isinstance(size, Mapping) and "shortest_edge" in size:
        raise _foreign("size", size, source, "a square, or do_center_crop with a crop_size")
    side = _edge(size, "size", source)
    return side, "squash", side


def _edge(size: Any, key: str, source: str) -> int:
    """Read 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    edges = set(size.values()) if isinstance(size, Mapping) else {size}
    if len(edges) != 1 or not all(type(edge) is int for edge in edges):
        raise _foreign(key, size, source, "one whole number, or equal height and width")
    edge: int = edges.pop()
    return edge


def _needed(config: Mapping[str, Any], key: str, source: str) -> Any:
    if config.get(key) is None:
        raise TrainingError(f"the {FILE} of {source} does not say {key!r}; add it")
    return config[key]


def _foreign(key: str, value: Any, source: str, wanted: str) -> TrainingError:
    return TrainingError(
        f"the {FILE} of {source} says {key} = {value!r}, but only {wanted} can be reproduced here; "
        "choose another checkpoint, or correct the file"
    )
