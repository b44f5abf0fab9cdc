"""Pixels that nothing else in a model's files can prove: they must be those of published models.

A wrong mean or kernel costs accuracy without a word. Whoever knows better accepts a key by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from miniclip.errors import BundleError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document

ANY_SIZE = frozenset(  # their image_size binds nobody
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
COLOURS = (_OPENAI, _IMAGENET, _HALF)
_COLOURS_OF = {
    "clip": (_OPENAI,),
    "chinese_clip": (_OPENAI,),
    "siglip": (_HALF,),
    "siglip2": (_HALF,),
}
_RESAMPLE = {
    **{"clip": (3,), "chinese_clip": (3,), "siglip": (2, 3), "siglip2": (2,), "vit": (2,)},
    **{"swin": (3,), "deit": (3,), "dinov2": (3,), "resnet": (3,), "convnext": (3,)},
}
_RESAMPLE_BESIDE = {  # SigLIP of the first kind and of the second, which call themselves alike
    **{"SiglipTokenizer": (3,), "Siglip2Tokenizer": (2,), "GemmaTokenizer": (2,)}
}
_RESIZE = {
    **{"clip": ("shortest",), "siglip": ("squash",)},
    **{"dinov2": ("shortest",), "dinov2_with_registers": ("shortest",)},
}
_CUTS = (1.0, 0.95, 0.9, 0.875)  # the share of the shortest edge that image models keep
_CUT_BY_FRACTION = dict.fromkeys(("resnet", "regnet", "convnext", "convnextv2"), (0.875,))


def check_pixels(
    kind: str,
    spec: ImageSpec,
    preprocessor: Document,
    accept: Collection[str],
    *,
    tokenizer: str = "",
) -> None:
    """Refuse pixels that no published model of the kind was trained on.

    kind: the `model_type` of the image tower. tokenizer: the class of the texts' one.
    """
    kind = kind.removesuffix("_vision_model")
    kernels = _RESAMPLE.get(kind, (2, 3))
    if kind == "siglip":
        kernels = _RESAMPLE_BESIDE.get(tokenizer, kernels)
    check_value(preprocessor, "resample", kernels, accept)
    check_value(preprocessor, "do_normalize", (True,), accept)
    colours = _COLOURS_OF.get(kind, COLOURS)
    if not (
        any(np.allclose(pair, (spec.mean, spec.std), atol=1e-6) for pair in colours)
        or {"image_mean", "image_std", "do_normalize"} & set(accept)
    ):
        wrong = "image_std" if spec.mean in [mean for mean, _ in colours] else "image_mean"
        pairs = either(f"image_mean {mean} with image_std {std}" for mean, std in colours)
        raise unusual(preprocessor, wrong, pairs)
    if spec.resize not in _RESIZE.get(kind, (spec.resize,)) and "size" not in accept:
        raise unusual(preprocessor, "size", f"{_RESIZE[kind][0]} is the usual rule")
    if kind in ANY_SIZE and spec.side not in _USUAL_SIDES and "size" not in accept:
        raise unusual(preprocessor, "size", "multiples of 14 and 16 are usual")
    cuts = (1.0,) if kind in _COLOURS_OF else _CUTS
    key = "crop_pct" if preprocessor.says("crop_pct") else "size"
    if key == "crop_pct" and spec.resize == "shortest":
        cuts = _CUT_BY_FRACTION.get(kind, cuts)
    edges = {int(spec.side / cut) for cut in cuts}
    if spec.resize_side not in edges and key not in accept:
        raise unusual(preprocessor, key, f"with side {spec.side}, {either(sorted(edges))}")


def check_pixels_of_open_clip(spec: ImageSpec, config: Document, accept: Collection[str]) -> None:
    """Refuse pixels that no published model of OpenCLIP was trained on."""
    check_value(config, "interpolation", ("bicubic",), accept)
    if not {"mean", "std"} & set(accept):
        known = [pair for pair in COLOURS if np.allclose(pair, (spec.mean, spec.std), atol=1e-6)]
        if not known:
            wrong = "std" if spec.mean in [mean for mean, _ in COLOURS] else "mean"
            pairs = either(f"mean {mean} with std {std}" for mean, std in COLOURS)
            raise unusual(config, wrong, pairs)
        rule = {_HALF: "squash", _OPENAI: "shortest"}.get(known[0], spec.resize)
        if spec.resize != rule and "resize_mode" not in accept:
            raise unusual(config, "resize_mode", f"{rule} is the usual rule with this mean")


def check_value(
    document: Document, key: str, usual: Collection[Any], accept: Collection[str]
) -> None:
    """Refuse a value that is none of the usual ones."""
    if document.says(key) and document.values[key] not in usual and key not in accept:
        raise unusual(document, key, either(usual))


def either(values: Iterable[Any]) -> str:
    """Join what may stand in one place."""
    return " or ".join(map(str, values))


def unusual(document: Document, key: str, usual: str) -> BundleError:
    """Make the refusal of a value."""
    return BundleError(
        f"{document.where} says {key} = {document.values.get(key)!r}, but published models of the "
        f"kind say otherwise ({usual}); correct the file, or accept {key} by name if it is right"
    )
