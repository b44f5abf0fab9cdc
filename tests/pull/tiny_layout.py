"""The tiny bundle of colours in the layout of transformers.js: ready-made graphs without torch."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import helper

from tests.tiny_bundle import SIDE, TEXT_SPEC, D, image_graph, text_graph, tiny_tokenizer

CONFIGS = {
    "config.json": {
        "model_type": "vision-text-dual-encoder",
        "projection_dim": D,
        "text_config": {"max_position_embeddings": TEXT_SPEC.context_length},
        "vision_config": {"image_size": SIDE},
    },
    "preprocessor_config.json": {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "tokenizer_config.json": {
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "do_lower_case": True,
        "model_max_length": TEXT_SPEC.context_length,
    },
}
CARD = "---\nlicense: apache-2.0\n---\n# Colours\n"
PROVIDED_SCALE = 20.0  # that of the bundle; no file says it


def tiny_layout(directory: Path) -> Path:
    """Write it."""
    (directory / "onnx").mkdir(parents=True)
    for name, values in CONFIGS.items():
        (directory / name).write_text(json.dumps(values))
    (directory / "tokenizer.json").write_text(tiny_tokenizer().to_str())
    (directory / "README.md").write_text(CARD)
    for tower, graph, output in (
        ("vision", image_graph(pixels="pixel_values"), "image_embeds"),
        ("text", text_graph(), "text_embeds"),
    ):
        proto = onnx.load_from_string(graph)
        proto.graph.node.append(helper.make_node("Identity", ["embedding"], [output]))
        del proto.graph.output[:]
        proto.graph.output.append(
            helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["B", D])
        )
        onnx.save(proto, directory / "onnx" / f"{tower}_model.onnx")
    return directory
