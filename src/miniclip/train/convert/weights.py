"""Whether the weights of a checkpoint are those that its configuration describes.

A refusal names the keys of config.json that may be wrong: those whose value is the size that the
weights contradict, or that count what is missing or left over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from miniclip.errors import BundleError
from miniclip.pull.documents import Document
from miniclip.train.convert.original import Loaded, Misfit

# A key, and the weights that are there because of it, or whose shape it decides indirectly.
_MAKES = {
    key: re.compile(pattern)
    for key, pattern in (
        ("image_size", "position"),
        ("patch_size", "position|patch_embed"),
        ("num_patches", "position"),
        ("max_position_embeddings", "position"),
        ("num_channels", "patch_embed"),
        ("window_size", "relative_position"),
        ("mlp_ratio", r"mlp|fc|intermediate|output\.dense"),
        ("use_swiglu_ffn", "mlp"),
        ("use_mask_token", "mask_token"),
        ("use_absolute_embeddings", "position_embeddings"),
        ("vision_use_head", r"vision_model\.head\."),
        ("qkv_bias", r"(query|key|value|[qkv]_proj|qkv)\.bias"),
        *((count, r"\.\d+\.") for count in ("num_hidden_layers", "n_layers", "depths")),
    )
}
_COUNTS = {"num_hidden_layers", "n_layers", "depths"}
_HEAD = re.compile(r"([a-z_]*classifier|head|lm_head|decoder|visual_projection)\.")


def check_weights(loaded: Loaded, config: Document, *, heads_may_be_left: bool = False) -> None:
    """Refuse weights that are missing, left over, or of another shape. BundleError names the key.

    heads_may_be_left: whether what follows an image model, such as a classifier, may go unused; a
    pooler may then be missing too.
    """
    if loaded.misfits:
        worst = loaded.misfits[0]
        section = _section(config, worst.name)
        keys = (_makers([worst.name]) - _COUNTS) | _of_that_size(section, worst)
        raise BundleError(
            f"the weights {worst.name} have the shape {worst.found}, but {config.where} asks for "
            f"{worst.wanted}; {_suspects(section, keys)}"
        )
    missing = [
        name for name in loaded.untrained if not (heads_may_be_left and "pooler" in name.split("."))
    ]
    if missing:
        raise BundleError(
            f"the checkpoint holds no weights for {_some(missing)}, so they would be random; "
            f"{_suspects(_section(config, missing[0]), _makers(missing))}"
        )
    left = [name for name in loaded.unused if not (heads_may_be_left and _HEAD.match(name))]
    if left:
        raise BundleError(
            f"the checkpoint holds weights that {config.where} has no place for: {_some(left)}; "
            f"{_suspects(_section(config, left[0]), _makers(left))}"
        )


def _suspects(section: Document, keys: Iterable[str]) -> str:
    named = [key for key in section.values if key in set(keys)] or ["model_type", "architectures"]
    return f"check {', '.join(named)} in {section.where}, or fetch the weights again"


def _section(config: Document, weight: str) -> Document:
    """Find the part of the configuration that a weight belongs to."""
    for part in ("text", "vision"):
        if weight.startswith(f"{part}_model.") and config.says(f"{part}_config"):
            return config.part(f"{part}_config")
    return config


def _makers(weights: list[str]) -> set[str]:
    """Name the keys that could account for all of these weights."""
    return {key for key, made in _MAKES.items() if all(map(made.search, weights))}


def _of_that_size(section: Document, misfit: Misfit) -> set[str]:
    """Name the keys whose value is a size that the weights do not have."""
    wrong = {*misfit.wanted} - {*misfit.found}
    return {key for key, value in section.values.items() if _numbers(value) & wrong}


def _numbers(value: Any) -> set[int]:
    values = value if isinstance(value, list) else [value]
    return {number for number in values if type(number) is int}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
