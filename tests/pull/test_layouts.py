"""Which files of a source are taken, on listings as published repositories have them."""

from __future__ import annotations

import pytest

from miniclip.errors import BundleError, ConfigError
from miniclip.pull.layouts import Layout, Precision, graph_files, layout_of, needed_files

SMALL = (
    *("README.md", "config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json"),
    *("tokenizer_config.json", "merges.txt"),
)
VARIANTS = ("", "_fp16", "_int8", "_uint8", "_quantized", "_q4", "_q4f16", "_bnb4")
TOWERS = tuple(
    f"onnx/{tower}model{variant}.onnx" for tower in ("", "text_", "vision_") for variant in VARIANTS
)
REPOSITORIES: dict[Layout, tuple[str, ...]] = {
    Layout.transformers_js: (*SMALL, *TOWERS, ".gitattributes", "quantize_config.json"),
    Layout.immich: (
        *("README.md", "config.json", ".gitattributes"),
        *("visual/model.onnx", "visual/preprocess_cfg.json", "visual/fp16/model.armnn"),
        *("visual/rknpu/rk3588/model.rknn", "visual/model.armnn"),
        *("textual/model.onnx", "textual/tokenizer.json", "textual/tokenizer_config.json"),
        *("textual/vocab.json", "textual/merges.txt", "textual/positional_embedding"),
    ),
    Layout.checkpoint: (
        *SMALL,
        *("model.safetensors", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"),
        *("runs/events.out", "model.fp16.safetensors"),
    ),
    Layout.open_clip: (
        *("README.md", "open_clip_config.json", "open_clip_model.safetensors"),
        *("open_clip_pytorch_model.bin", "tokenizer.json", "tokenizer_config.json"),
    ),
}


@pytest.mark.parametrize("layout", Layout)
def test_a_source_is_recognised_by_its_files(layout: Layout) -> None:
    assert layout_of(REPOSITORIES[layout], "a source") is layout


def large(layout: Layout, precision: Precision = "float32") -> set[str]:
    files = set(needed_files(REPOSITORIES[layout], layout, precision))
    assert {n for n in REPOSITORIES[layout] if n.endswith((".json", ".txt"))} <= files
    return {name for name in files if not name.endswith((".json", ".txt", ".md"))}


@pytest.mark.parametrize(
    ("precision", "variant"), [("float32", ""), ("float16", "_fp16"), ("int8", "_quantized")]
)
def test_two_towers_are_taken_and_the_smallest_graph_that_tells_the_logits(
    precision: Precision, variant: str
) -> None:
    assert large(Layout.transformers_js, precision) == {
        f"onnx/vision_model{variant}.onnx",
        f"onnx/text_model{variant}.onnx",
        "onnx/model_quantized.onnx",
    }


def test_weights_in_parts_are_taken_once() -> None:
    assert large(Layout.checkpoint) == {"model.safetensors"}
    assert large(Layout.open_clip) == {"open_clip_model.safetensors"}
    parts = {"config.json", "model.safetensors.index.json"}
    parts |= {f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}
    taken = needed_files([*parts, "flax_model.msgpack"], Layout.checkpoint, "float32")
    assert set(taken) == parts
    old = ("config.json", "pytorch_model.bin", "optimizer.bin")
    assert needed_files(old, Layout.checkpoint, "float32") == ["config.json", "pytorch_model.bin"]


def test_files_of_weights_beside_a_graph_are_taken_with_it() -> None:
    assert large(Layout.immich) == {
        "visual/model.onnx",
        "textual/model.onnx",
        "textual/positional_embedding",
    }
    whole = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1"]
    half = ["onnx/model_fp16.onnx", "onnx/model_fp16.onnx_data"]
    graphs_of: dict[Precision, list[str]] = {"float32": whole, "float16": half}
    for precision, graphs in graphs_of.items():
        taken = needed_files([*SMALL, *whole, *half], Layout.transformers_js, precision)
        assert set(taken) == {*SMALL, *graphs}


def test_without_a_graph_of_both_towers_the_weights_may_tell_the_logits() -> None:
    names = (*SMALL, "onnx/vision_model.onnx", "onnx/text_model.onnx", "model.safetensors")
    assert "model.safetensors" in needed_files(names, Layout.transformers_js, "float32")


def test_a_graph_of_both_towers_serves_for_both() -> None:
    assert graph_files([*SMALL, "onnx/model.onnx"], "float32") == ["onnx/model.onnx"] * 2


def test_what_is_not_there_is_refused_by_name() -> None:
    names = (
        *SMALL,
        "onnx/model.onnx",
        "onnx/vision_model_uint8.onnx",
        "onnx/text_model_uint8.onnx",
    )
    with pytest.raises(BundleError, match="--precision float32 or int8"):
        graph_files(names, "float16")
    with pytest.raises(BundleError, match="choose another source"):
        graph_files([*SMALL, "onnx/decoder_model.onnx"], "float32")
    with pytest.raises(BundleError, match="miniclip quantize"):
        needed_files(REPOSITORIES[Layout.immich], Layout.immich, "int8")
    with pytest.raises(BundleError, match=r"no textual/model\.onnx"):
        needed_files(["visual/model.onnx", "config.json"], Layout.immich, "float32")
    with pytest.raises(ConfigError, match="'int4'; choose one of float32, float16, int8"):
        graph_files(names, "int4")  # type: ignore[arg-type]
    for listing in ((), ("photo.jpg",), ("config.json",), ("model.safetensors",)):
        with pytest.raises(BundleError, match="no model that can be pulled"):
            layout_of(listing, "a source")
