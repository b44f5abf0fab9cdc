"""A trained `TwoTower` as a VisionTextDualEncoderModel of transformers, where it can be one.

That architecture is two towers of the library, of each its `pooler_output`, and on each a matrix
without a bias. So the towers must pool as the library does, and the heads be linear. What a head
adds, and what standardised features subtract, is moved into the tower: W f + b = W (f + s) with
W s = b, and s goes into the last LayerNorm, or into the pooler that a ViT of class tokens gets.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModel, VisionTextDualEncoderConfig, VisionTextDualEncoderModel

from miniclip.errors import ExportError
from miniclip.train.export.onnx_graphs import ready_to_export
from miniclip.train.model import TwoTower
from miniclip.train.towers.image import TransformersImageTower

_LAST_NORMS = ("post_layernorm", "final_layer_norm", "layernorm")


def dual_encoder(model: TwoTower) -> VisionTextDualEncoderModel:
    """Say a model in that architecture; its embeddings are the same, its features may be shifted.

    ExportError says why where it cannot be said.
    """
    model = ready_to_export(model)
    image, text = model.image_tower, model.text_tower
    if not isinstance(image, TransformersImageTower):
        raise _unfit(f"the image tower {image.source} is none of that library")
    if model.image_centre is not None:
        raise _unfit("the model looks at each photo twice (image.centre)")
    if float(model.bias):
        raise _unfit(f"its logits have a bias ({float(model.bias):.3g}), of the sigmoid loss")
    if text.pooling != "pooler":
        raise _unfit(f"the text tower pools its tokens by {text.pooling!r} (text.pooling)")
    towers = {"image": _vision_tower(image), "text": text.encoder}
    maps = {
        "image": _linear_map(model.image_head, "image", model.feature_mean, model.feature_std),
        "text": _linear_map(model.text_head, "text"),
    }
    for name, tower in towers.items():
        if not isinstance(getattr(tower.config, "hidden_size", None), int):
            raise _unfit(f"a {_kind(tower)} says no hidden_size, which that asks for")
        _move(maps[name].shift, tower, name)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        towers["image"].config,
        towers["text"].config,
        projection_dim=model.embedding_dim,
        logit_scale_init_value=math.log(float(model.scale)),
    )
    dual = VisionTextDualEncoderModel(
        config, vision_model=towers["image"], text_model=towers["text"]
    )
    with torch.no_grad():
        dual.visual_projection.weight.copy_(maps["image"].weight)
        dual.text_projection.weight.copy_(maps["text"].weight)
        dual.logit_scale.copy_(model.scale.log())
    return dual.eval()


class _LinearMap(NamedTuple):
    """f to weight (f + shift): weight (D, F), shift (F,)."""

    weight: Tensor
    shift: Tensor


def _linear_map(
    head: nn.Module, name: str, mean: Tensor | None = None, std: Tensor | None = None
) -> _LinearMap:
    """Write head((f - mean) / std) as a matrix and a shift."""
    if isinstance(head, nn.Sequential) and len(head) == 2 and isinstance(head[0], nn.Dropout):
        head = head[1]  # what is dropped from the input is dropped in training only
    if not isinstance(head, nn.Linear):
        raise _unfit(f"the {name} head is not a linear map alone ({name}.head.kind)")
    weight: Tensor = head.weight.data
    added = torch.zeros(len(weight)) if head.bias is None else head.bias.data
    if mean is not None and std is not None:
        weight = weight / std
        added = added - weight @ mean
    exact = weight.double()
    shift = torch.linalg.lstsq(exact, added.double(), driver="gelsd").solution
    left = (exact @ shift - added).abs().max()
    if left > 1e-6 * max(1.0, float(added.abs().max())):
        raise _unfit(f"the {name} head adds what no features give ({name}.head.bias)")
    return _LinearMap(weight, shift.float())


def _vision_tower(tower: TransformersImageTower) -> nn.Module:
    """Return a model of the library whose `pooler_output` is the tower's features."""
    if tower.pooling == "pooler":
        return tower.backbone
    config = copy.deepcopy(tower.backbone.config)
    if tower.pooling != "cls" or not hasattr(config, "pooler_act"):
        raise _unfit(f"the image tower pools its places by {tower.pooling!r}")
    config.pooler_act = "linear"
    pooled = AutoModel.from_config(config).float().eval().requires_grad_(False)
    pooled.load_state_dict(tower.backbone.state_dict(), strict=False)
    nn.init.eye_(pooled.pooler.dense.weight)
    nn.init.zeros_(pooled.pooler.dense.bias)
    model: nn.Module = pooled
    return model


def _move(shift: Tensor, tower: nn.Module, name: str) -> None:
    """Have a tower give features that are larger by `shift`."""
    if not shift.any():
        return
    pooler = getattr(tower, "pooler", None)
    norms = [part for path, part in tower.named_modules() if path.split(".")[-1] in _LAST_NORMS]
    if pooler is not None and getattr(tower.config, "pooler_act", "tanh") == "linear":
        bias = pooler.dense.bias
    elif pooler is None and norms and isinstance(norms[-1], nn.LayerNorm):
        bias = norms[-1].bias
    else:
        raise _unfit(
            f"the {name} head adds a bias, which has no place behind the pooler of a "
            f"{_kind(tower)} ({name}.head.bias)"
        )
    with torch.no_grad():
        bias += shift


def _kind(tower: nn.Module) -> str:
    return str(getattr(tower.config, "model_type", type(tower).__name__))


def _unfit(why: str) -> ExportError:
    return ExportError(
        f"{why}; VisionTextDualEncoder takes towers of transformers by their pooler_output, and on "
        "each a matrix (docs/share.md says how to train such a model)"
    )
