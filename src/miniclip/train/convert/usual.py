"""Values that nothing else in a checkpoint can prove: they must be those of published models.

A wrong activation, epsilon or mean costs accuracy without a word, and no weight has a shape that
would tell. Whoever knows better accepts a key by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from miniclip.errors import BundleError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document

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
    ("clip_text_model", "hidden_act"): ("gelu",),
    ("clip_vision_model", "hidden_act"): ("gelu",),
    ("vit", "layer_norm_eps"): (1e-6,),
    ("roberta", "layer_norm_eps"): (1e-5,),
    ("xlm-roberta", "layer_norm_eps"): (1e-5,),
}
_HEAD_WIDTH = 64
_OTHER_HEAD_WIDTHS = {  # hidden_size -> widths
    **{384: (32, 64), 1152: (72,), 1280: (64, 80), 1408: (88,), 1536: (64, 96), 1664: (104,)}
}

_ANY_SIZE = frozenset(  # their image_size binds nobody
    {
        *("dinov2", "dinov2_with_registers", "dinov3_vit", "resnet", "regnet", "bit", "swinv2"),
        *("convnext", "convnextv2", "dinov3_convnext", "efficientnet", "mobilevit", "mobilevitv2"),
        *("mobilenet_v1", "mobilenet_v2"),
    }
)
_USUAL_SIDES = {*range(0, 2048, 14), *range(0, 2048, 16), 260, 300, 380, 456, 600}
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5,) * 3, (0.5,) * 3)
_COLOURS = {"clip": (_OPENAI,), "chinese_clip": (_OPENAI,), "siglip": (_HALF,), "siglip2": (_HALF,)}
_RESAMPLE = {
    **{"clip": (3,), "chinese_clip": (3,), "siglip": (2, 3), "siglip2": (2,), "vit": (2,)},
    **{"swin": (3,), "deit": (3,), "dinov2": (3,), "resnet": (3,), "convnext": (3,)},
}
_RESIZE = {"clip": ("shortest",), "siglip": ("squash",)}
_CUTS = (1.0, 0.95, 0.9, 0.875)  # the share of the shortest edge that image models keep


def check_tower(
    section: Document, config: Any, spec: ImageSpec, accept: Collection[str]
) -> tuple[str, ...]:
    """Refuse the configuration of a tower that is incomplete or unusual. BundleError names the key.

    config: the library's object for the section. Version 4 of the library wrote of inner tables
    only what differs from its defaults: a table that repeats none of them was written so, and what
    it leaves out without a shape to prove it is returned, to be recorded; a table that repeats some
    was written whole, and must be whole.
    """
    kind, defaults = str(config.model_type), type(config)().to_dict()
    decisive = {key: value for key, value in defaults.items() if key in _DECISIVE}
    missing = [
        key for key, value in decisive.items() if value is not None and not section.says(key)
    ]
    if missing and any(section.values.get(key) == value for key, value in decisive.items()):
        section.need(missing[0])
    for key in set(_NO_SHAPE) & set(defaults):
        _check(section, key, (defaults[key], *_ALSO_USUAL.get((kind, key), ())), accept)
    _check_heads(section, config, accept)
    if spec.patch is not None and getattr(config, "patch_size", spec.patch) != spec.patch:
        raise BundleError(
            f"{section.where} says patch_size = {config.patch_size}, but the preprocessor says "
            f"patch_size = {spec.patch}; correct the one that is wrong"
        )
    if "image_size" in decisive and kind not in _ANY_SIZE and "image_size" not in accept:
        sizes = np.unique(config.image_size).tolist()
        if sizes != [spec.side]:
            raise BundleError(
                f"{section.where} says image_size = {config.image_size}, but by size, crop_size "
                f"and do_center_crop of the preprocessor pictures have the side {spec.side}; "
                "correct the one that is wrong"
            )
    silent = {*_NO_SHAPE, "num_attention_heads"} & set(missing)
    return tuple(f"{section.where}: {key} = {defaults[key]}" for key in sorted(silent))


def _check_heads(section: Document, config: Any, accept: Collection[str]) -> None:
    """Refuse attention heads of an unusual width; no weight has a shape that would tell."""
    width, heads = (getattr(config, key, None) for key in ("hidden_size", "num_attention_heads"))
    if type(width) is not int or type(heads) is not int or "num_attention_heads" in accept:
        return
    usual = _OTHER_HEAD_WIDTHS.get(width, (_HEAD_WIDTH,))
    if width not in [heads * head for head in usual]:
        raise _unusual(section, "num_attention_heads", f"hidden_size / {_either(usual)}")


def check_alike(one: Document, other: Document, accept: Collection[str]) -> None:
    """Refuse towers of one family that differ in activation or epsilon."""
    for key in ("hidden_act", "layer_norm_eps"):
        both = one.says(key) and other.says(key) and key not in accept
        if both and one.values[key] != other.values[key]:
            raise _unusual(one, key, f"{other.where} says {other.values[key]!r}")


def check_pixels(
    kind: str, spec: ImageSpec, preprocessor: Document, accept: Collection[str]
) -> None:
    """Refuse pixels that no published model of the kind was trained on.

    kind: the `model_type` of the image tower.
    """
    kind = kind.removesuffix("_vision_model")
    _check(preprocessor, "resample", _RESAMPLE.get(kind, (2, 3)), accept)
    _check(preprocessor, "do_normalize", (True,), accept)
    colours = _COLOURS.get(kind, (_OPENAI, _IMAGENET, _HALF))
    if not (
        any(np.allclose(pair, (spec.mean, spec.std), atol=1e-6) for pair in colours)
        or {"image_mean", "image_std", "do_normalize"} & set(accept)
    ):
        wrong = "image_std" if spec.mean in [mean for mean, _ in colours] else "image_mean"
        pairs = _either(f"image_mean {mean} with image_std {std}" for mean, std in colours)
        raise _unusual(preprocessor, wrong, pairs)
    if spec.resize not in _RESIZE.get(kind, (spec.resize,)) and "size" not in accept:
        raise _unusual(preprocessor, "size", f"{_RESIZE[kind][0]} is the usual rule")
    if kind in _ANY_SIZE and spec.side not in _USUAL_SIDES and "size" not in accept:
        raise _unusual(preprocessor, "size", "multiples of 14 and 16 are usual")
    cuts = (1.0,) if kind in _COLOURS else _CUTS
    edges = {int(spec.side / cut) for cut in cuts}
    key = "crop_pct" if preprocessor.says("crop_pct") else "size"
    if spec.resize_side not in edges and key not in accept:
        raise _unusual(preprocessor, key, f"with side {spec.side}, {_either(sorted(edges))}")


def _check(document: Document, key: str, usual: Collection[Any], accept: Collection[str]) -> None:
    if document.says(key) and document.values[key] not in usual and key not in accept:
        raise _unusual(document, key, _either(usual))


def _either(values: Iterable[Any]) -> str:
    return " or ".join(map(str, values))


def _unusual(document: Document, key: str, usual: str) -> BundleError:
    return BundleError(
        f"{document.where} says {key} = {document.values.get(key)!r}, but published models of the "
        f"kind say otherwise ({usual}); correct the file, or accept {key} by name if it is right"
    )
