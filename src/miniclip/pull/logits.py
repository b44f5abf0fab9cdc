"""Scale and bias of a model's logits: s and b of s * cosine + b.

They are no part of the towers. A graph that holds both towers computes the logits at its end, and
a checkpoint beside it holds the learned numbers; else somebody has to say them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from miniclip.errors import BundleError
from miniclip.pull.graph_surgery import cut_out

_LOGITS = ("logits_per_image", "logits_per_text")
_UNIT_ROWS = ("image_embeds", "text_embeds")


class Logits(NamedTuple):
    """scale: above 0; bias: 0 for models of the softmax kind."""

    scale: float
    bias: float = 0.0


def logits_of_graph(proto: onnx.ModelProto) -> Logits | None:
    """Read them off the end of a graph of both towers; None when it is none, or ends otherwise.

    The end is run alone, on vectors whose cosines are known.
    """
    outputs = {output.name: output for output in proto.graph.output}
    name = next((name for name in _LOGITS if name in outputs), None)
    if name is None or not set(_UNIT_ROWS) <= set(outputs):
        return None
    end = cut_out(proto, [name], _UNIT_ROWS)
    if {value.name for value in end.graph.input} != set(_UNIT_ROWS):
        return None
    element = outputs[_UNIT_ROWS[0]].type.tensor_type.elem_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(element)
    cosines = np.array([[1, 0], [0.6, 0.8]])
    rows = (cosines.astype(kind), np.eye(2, dtype=kind))
    try:
        (logits,) = ReferenceEvaluator(end).run(None, dict(zip(_UNIT_ROWS, rows, strict=True)))
    except Exception:  # whatever an unknown end raises, it tells nothing
        return None
    logits = np.asarray(logits, dtype=np.float64)
    if logits.shape != (2, 2):
        return None
    if name == "logits_per_text":
        logits = logits.T
    found = Logits(float(logits[0, 0] - logits[0, 1]), float(logits[0, 1]))
    expected = found.scale * cosines + found.bias
    return found if found.scale > 0 and np.allclose(logits, expected, rtol=1e-3) else None


def logits_of_checkpoint(path: Path) -> Logits | None:
    """Read them out of a safetensors file; None when it holds none. BundleError if unreadable."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 -- an optional package

    try:
        with safe_open(path, framework="numpy") as tensors:
            held = set(tensors.keys())
            if "logit_scale" not in held:
                return None
            bias = tensors.get_tensor("logit_bias").item() if "logit_bias" in held else 0.0
            return Logits(math.exp(tensors.get_tensor("logit_scale").item()), float(bias))
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); fetch it again") from error


def settle_logits(found: Logits | None, scale: float | None, bias: float | None) -> Logits:
    """Choose between what files and what people say. BundleError for neither, or contradictions."""
    if found is None and scale is None:
        raise BundleError(
            "none of the model's files says its logit scale; read it off the original checkpoint "
            "and give it with --logit-scale (100 for the CLIP models of OpenAI and most of their "
            "kin), and --logit-bias for models of the sigmoid kind, such as SigLIP"
        )
    if found is None:
        return Logits(float(scale or 0), float(bias or 0))
    for name, said, held in (("scale", scale, found.scale), ("bias", bias, found.bias)):
        if said is not None and not math.isclose(said, held, rel_tol=1e-3, abs_tol=1e-3):
            raise BundleError(
                f"--logit-{name} is {said:g}, but the model's own files say {held:g}; "
                "leave the option away"
            )
    return found
