"""Values of towers that nothing else in a checkpoint can prove: those of published models.

A wrong activation or epsilon costs accuracy without a word, and no weight has a shape that would
tell. Whoever knows better accepts a key by name. Of pixels the same is said in `pull.usual_pixels`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from miniclip.errors import BundleError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document
from miniclip.pull.usual_pixels import ANY_SIZE, check_value, either, unusual

# Keys of config.json that decide the vectors; each class of models has some of them.
_DECISIVE = frozenset(
    {
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("hidden_act", "activation", "layer_norm_eps", "vocab_size", "max_position_embeddings"),
        *("image_size", "patch_size", "num_channels", "num_patches", "mlp_ratio", "qkv_bias"),
        *("embedding_size", "embed_dim", "hidden_sizes", "depths", "num_heads", "window_size"),
        *("layer_type", "downsample_in_first_stage", "use_swiglu_ffn"),
        *("n_layers", "n_heads", "dim", "hidden_dim", "type_vocab_size"),
    }
)
_NO_SHAPE = (
    *("hidden_act", "activation", "pooler_act", "layer_norm_eps", "downsample_in_first_stage"),
    *("downsample_in_bottleneck", "vision_use_head", "is_decoder", "add_cross_attention"),
)
_ALSO_USUAL: Mapping[tuple[str, str], tuple[Any, ...]] = {  # beside the default of the class
    ("vit", "layer_norm_eps"): (1e-6,),
    ("roberta", "layer_norm_eps"): (1e-5,),
    ("xlm-roberta", "layer_norm_eps"): (1e-5,),
}
_BY_TWINS = {"clip_text_model": ("gelu",), "clip_vision_model": ("gelu",)}  # LAION's activation
_HEAD_WIDTH = 64
_NARROWEST = 128  # of published towers; test models are narrower, with heads of any width
_OTHER_HEAD_WIDTHS = {  # hidden_size -> widths
    **{384: (32, 64), 1152: (72,), 1280: (64, 80), 1408: (88,), 1536: (64, 96), 1664: (104,)}
}


def check_tower(
    section: Document,
    config: Any,
    spec: ImageSpec,
    accept: Collection[str],
    *,
    has_twin: bool = False,
) -> tuple[str, ...]:
    """Refuse the configuration of a tower that is incomplete or unusual. BundleError names the key.

    config: the library's object for the section. has_twin: whether the other tower is of the same
    design and must say the same, by `check_alike`; two witnesses are believed more. Returned, to be
    recorded, is what decides the vectors and nothing proves.
    Version 4 of the library wrote of inner tables only what differs from its defaults: a table that
    repeats none of them was written so; a table that repeats some was written whole, and must be.
    """
    kind, defaults = str(config.model_type), type(config)().to_dict()
    decisive = {key: value for key, value in defaults.items() if key in _DECISIVE}
    missing = [
        key for key, value in decisive.items() if value is not None and not section.says(key)
    ]
    if missing and any(section.values.get(key) == value for key, value in decisive.items()):
        section.need(missing[0])
    for key in set(_NO_SHAPE) & set(defaults):
        also = _ALSO_USUAL.get((kind, key), ())
        if has_twin and key == "hidden_act":
            also = _BY_TWINS.get(kind, also)
        check_value(section, key, (defaults[key], *also), accept)
    unproven = _check_heads(section, config, accept)
    if spec.patch is not None and getattr(config, "patch_size", spec.patch) != spec.patch:
        raise BundleError(
            f"{section.where} says patch_size = {config.patch_size}, but the preprocessor says "
            f"patch_size = {spec.patch}; correct the one that is wrong"
        )
    if "image_size" in decisive and kind not in ANY_SIZE and "image_size" not in accept:
        sizes = np.unique(config.image_size).tolist()
        if sizes != [spec.side]:
            raise BundleError(
                f"{section.where} says image_size = {config.image_size}, but by size, crop_size "
                f"and do_center_crop of the preprocessor pictures have the side {spec.side}; "
                "correct the one that is wrong"
            )
    silent = {*_NO_SHAPE, "num_attention_heads"} & set(missing)
    return (
        *(f"{section.where}: {key} = {defaults[key]}" for key in sorted(silent)),
        *unproven,
    )


def _check_heads(section: Document, config: Any, accept: Collection[str]) -> tuple[str, ...]:
    """Refuse attention heads of an unusual width; no weight has a shape that would tell.

    Towers that are narrower than all published ones are believed, and what they say is returned.
    """
    width, heads = (getattr(config, key, None) for key in ("hidden_size", "num_attention_heads"))
    if type(width) is not int or type(heads) is not int or "num_attention_heads" in accept:
        return ()
    usual = _OTHER_HEAD_WIDTHS.get(width, (_HEAD_WIDTH,))
    if width in [heads * head for head in usual]:
        return ()
    if width < _NARROWEST:
        return (f"{section.where}: num_attention_heads = {heads}",)
    raise unusual(section, "num_attention_heads", f"hidden_size / {either(usual)}")


def check_alike(one: Document, other: Document, accept: Collection[str]) -> None:
    """Refuse towers of one family that differ in activation or epsilon."""
    for key in ("hidden_act", "layer_norm_eps"):
        both = one.says(key) and other.says(key) and key not in accept
        if both and one.values[key] != other.values[key]:
            raise unusual(one, key, f"{other.where} says {other.values[key]!r}")
