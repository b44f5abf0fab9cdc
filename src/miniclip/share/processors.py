"""The settings by which transformers and transformers.js make the same pixels and tokens as we.

What these files cannot say is refused by name: a model whose inputs are made otherwise would give
other vectors without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import tokenizers

from miniclip.bundle import TOKENIZER_FILE, Bundle
from miniclip.errors import ExportError
from miniclip.manifest import Manifest
from miniclip.preprocess import ImageSpec
from miniclip.tokenizer import TextSpec

CONFIG_FILE, PREPROCESSOR_FILE = "config.json", "preprocessor_config.json"
TOKENIZER_CONFIG_FILE, SPECIAL_FILE = "tokenizer_config.json", "special_tokens_map.json"
_RESAMPLE = {"lanczos": 1, "bilinear": 2, "bicubic": 3}  # the numbers of PIL.Image.Resampling


def preprocessor(spec: ImageSpec) -> dict[str, Any]:
    """Return the content of preprocessor_config.json. ExportError for what it cannot say."""
    if spec.resize == "patches" or spec.crop != "floor":
        raise ExportError(
            f"pixels made by the rules resize = {spec.resize!r} and crop = {spec.crop!r} cannot be "
            "made by other programs; share a model with 'squash' or 'shortest' and 'floor'"
        )
    cut = {"height": spec.side, "width": spec.side}
    size = {"height": spec.resize_side, "width": spec.resize_side}
    if spec.resize == "shortest":
        size = {"shortest_edge": spec.resize_side}
    plain = size == cut
    return {
        "image_processor_type": "ViTImageProcessor" if plain else "CLIPImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": _RESAMPLE[spec.interpolation],
        **({} if plain else {"do_center_crop": True, "crop_size": cut}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }


def tokenizer_files(bundle: Bundle, spec: TextSpec) -> dict[str, Any]:
    """Return the contents of tokenizer.json and of the files beside it, as JSON values or bytes.

    The special tokens that stand around every text are named after what they do: the first is
    `bos_token` and `cls_token`, the last `eos_token` and `sep_token`.
    """
    path = bundle.path(TOKENIZER_FILE)
    core = tokenizers.Tokenizer.from_file(str(path))
    special = _special_tokens(core, spec)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        **special,
    }
    return {
        TOKENIZER_FILE: path.read_bytes(),
        TOKENIZER_CONFIG_FILE: settings,
        SPECIAL_FILE: special,
    }


def _special_tokens(core: tokenizers.Tokenizer, spec: TextSpec) -> dict[str, str]:
    padding = core.id_to_token(spec.pad_id)
    if padding is None:
        raise ExportError(
            f"the tokenizer has no token of id {spec.pad_id}, which fills short texts; "
            "pull or export the bundle again with the original tokenizer.json"
        )
    named = {"pad_token": padding, "unk_token": getattr(core.model, "unk_token", None)}
    around = core.encode("").tokens
    if around:
        named |= dict.fromkeys(("eos_token", "sep_token"), around[-1])
    if len(around) > 1:
        named |= dict.fromkeys(("bos_token", "cls_token"), around[0])
    return {name: token for name, token in named.items() if token}


def config(manifest: Manifest, tokens: int) -> dict[str, Any]:
    """Return the config.json of the graphs; tokens: how many the vocabulary has.

    `model_type` says how transformers.js turns logits into probabilities: "clip" by softmax,
    "siglip", of models with a bias, by a sigmoid. Nothing else of those architectures is claimed.
    """
    width, spec = manifest.embedding_dim, manifest.text
    vision = {"image_size": manifest.image.side, "projection_dim": width}
    if spec is None:
        return {"model_type": "custom", "hidden_size": width, **vision, **_origin(manifest)}
    kind = "siglip" if manifest.logit_bias else "clip"
    text = {
        "max_position_embeddings": spec.context_length,
        "projection_dim": width,
        "vocab_size": tokens,
    }
    return {
        "model_type": kind,
        "projection_dim": width,
        "logit_scale_init_value": math.log(manifest.logit_scale),
        "text_config": {"model_type": f"{kind}_text_model", **text},
        "vision_config": {"model_type": f"{kind}_vision_model", **vision},
        **_origin(manifest),
    }


def _origin(manifest: Manifest) -> Mapping[str, Any]:
    """Name the graphs that transformers.js loads where it is not told: it would take others.

    The pixels are said a second time, so that they are believed however unusual they are.
    """
    return {
        "_name_or_path": manifest.name,
        "transformers.js_config": {"dtype": "fp32"},
        "miniclip": {"image": manifest.image.to_dict()},
    }
