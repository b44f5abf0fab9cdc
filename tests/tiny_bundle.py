"""A bundle of a few kilobytes that really runs: colours and colour words share a space (D = 4).

Image features (F = 12) are the mean colours of the four quarters, in [-1, 1]; the embedding is
their mean with a constant 1 beside it. A text's embedding is the mean of its words' vectors, where
a colour word stands for its colour and any other word for (0, 0, 0, 0.01). So a red picture is
nearest to "red", and a sentence without a colour is as near to any picture.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import tokenizers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import models, normalizers, pre_tokenizers, processors

from miniclip.bundle import Bundle, write_bundle
from miniclip.manifest import Manifest, Parity
from miniclip.preprocess import ImageSpec
from miniclip.tokenizer import TextSpec

SIDE, D, F = 32, 4, 12
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (*SPECIAL, *COLOURS, "a", "photo", "of", "the", "picture", "square", "and")

IMAGE_SPEC = ImageSpec(
    side=SIDE,
    resize="squash",
    resize_side=SIDE,
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
TEXT_SPEC = TextSpec(context_length=16)
MANIFEST = Manifest(
    name="tiny",
    embedding_dim=D,
    feature_dim=F,
    image=IMAGE_SPEC,
    text=TEXT_SPEC,
    logit_scale=20.0,
    licence="Apache-2.0",
    parity=Parity(image_cosine_min=1.0, text_cosine_min=1.0, photos=1, sentences=1),
    provenance={"recipe": "by hand", "data": "none"},
    weights={"image": "float32", "text": "float32"},
)


def build_tiny_bundle(directory: Path) -> Bundle:
    """Write the bundle to `directory` and open it."""
    return write_bundle(directory, manifest=MANIFEST, files=tiny_files())


def images_alone(directory: Path) -> Bundle:
    """Write the image half as a bundle of its own, whose embedding is its features."""
    manifest = replace(
        MANIFEST,
        name="tiny-images",
        embedding_dim=F,
        text=None,
        parity=Parity(image_cosine_min=1.0, text_cosine_min=None, photos=1, sentences=0),
    )
    proto = onnx.load_from_string(image_graph())
    proto.graph.node[-1].CopyFrom(helper.make_node("Identity", ["features"], ["embedding"]))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = F
    del proto.graph.initializer[:]
    return write_bundle(
        directory, manifest=manifest, files={"image.onnx": proto.SerializeToString()}
    )


def tiny_files() -> dict[str, bytes]:
    """Give the files of the bundle, for tests that alter some of them."""
    return {
        "image.onnx": image_graph(),
        "text.onnx": text_graph(),
        "tokenizer.json": tiny_tokenizer().to_str().encode(),
    }


def image_graph(*, side: int = SIDE, width: int = D, pixels: str = "pixels") -> bytes:
    """Average over quarters, then over the picture; the arguments make it wrong on purpose."""
    mean_of_quarters = np.zeros((F, width), dtype=np.float32)
    for channel in range(3):
        mean_of_quarters[channel * 4 : channel * 4 + 4, channel] = 0.25
    constant = np.eye(1, width, k=3, dtype=np.float32)
    return _serialised(
        [
            helper.make_node(
                "AveragePool",
                [pixels],
                ["quarters"],
                kernel_shape=[side // 2, side // 2],
                strides=[side // 2, side // 2],
            ),
            helper.make_node("Flatten", ["quarters"], ["features"]),
            helper.make_node("Gemm", ["features", "projection", "constant"], ["embedding"]),
        ],
        inputs=[(pixels, TensorProto.FLOAT, ["B", 3, side, side])],
        outputs=[
            ("embedding", TensorProto.FLOAT, ["B", width]),
            ("features", TensorProto.FLOAT, ["B", F]),
        ],
        constants={"projection": mean_of_quarters, "constant": constant},
    )


def text_graph() -> bytes:
    """Mean of the word vectors under the mask."""
    return _serialised(
        [
            helper.make_node("Gather", ["words", "input_ids"], ["vectors"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["mask_column"]),
            helper.make_node("Mul", ["vectors", "mask_column"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "middle"], ["total"], keepdims=0),
            helper.make_node("ReduceSum", ["mask_column", "middle"], ["count"], keepdims=0),
            helper.make_node("Div", ["total", "count"], ["features"]),
            helper.make_node("Identity", ["features"], ["embedding"]),
        ],
        inputs=[
            ("input_ids", TensorProto.INT64, ["B", "T"]),
            ("attention_mask", TensorProto.INT64, ["B", "T"]),
        ],
        outputs=[
            ("embedding", TensorProto.FLOAT, ["B", D]),
            ("features", TensorProto.FLOAT, ["B", D]),
        ],
        constants={"words": word_vectors(), "last": np.array([2]), "middle": np.array([1])},
    )


def word_vectors() -> NDArray[np.float32]:
    """One row (D) for each of WORDS."""
    vectors = np.zeros((len(WORDS), D), dtype=np.float32)
    vectors[len(SPECIAL) :, 3] = 0.01
    for word, colour in COLOURS.items():
        vectors[WORDS.index(word)] = (*(channel / 127.5 - 1 for channel in colour), 1)
    vectors[WORDS.index("[SEP]"), 3] = 0.01
    return vectors


def tiny_tokenizer() -> tokenizers.Tokenizer:
    """Whole lower-case words between [CLS] and [SEP]."""
    core = tokenizers.Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, WORDS.index(word)) for word in ("[CLS]", "[SEP]")],
    )
    return core


def edit_manifest(bundle: Bundle, **changes: object) -> None:
    """Overwrite keys of `bundle.json` without any of the checks."""
    path = bundle.path("bundle.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _serialised(
    nodes: list[onnx.NodeProto],
    *,
    inputs: list[tuple[str, int, list[int | str]]],
    outputs: list[tuple[str, int, list[int | str]]],
    constants: dict[str, NDArray[np.generic]],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
