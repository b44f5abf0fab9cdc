"""CLIP ViT-B/32 at full size with random weights, in every form that `runtime.py` compares.

Random weights cost the same time as trained ones. The checkpoint is written by transformers, and
every other form is made of it by the commands that a user has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image

from miniclip.bundle import IMAGE_FILE, TEXT_FILE, Bundle
from miniclip.datasets.folders import LabelledImages
from miniclip.images import ImageSource, decode
from miniclip.quantize.questions import ProbeQuestions
from miniclip.quantize.run import quantize

VOCABULARY = 49_408
CROPS = 8  # of each photo, to judge int8 by


class Models(NamedTuple):
    """Where they lie.

    dynamic: onnxruntime's own dynamic int8; fastembed, faster_clip: folders in the form of these.
    """

    checkpoint: Path
    float32: Bundle
    int8: Bundle
    portable: Bundle
    dynamic: Path
    fastembed: Path
    faster_clip: Path
    verdicts: dict[str, str]


def make_models(folder: Path, photos: list[Path]) -> Models:
    """Make what is not there yet."""
    checkpoint, verdicts = folder / "checkpoint", folder / "verdicts.json"
    if not verdicts.exists():
        write_checkpoint(checkpoint)
        float32 = convert_checkpoint(checkpoint, folder / "float32")
        questions = crops_as_classes(photos, folder / "crops")
        said = {}
        for name, runtime in (("int8", "onnxruntime"), ("portable", "openvino-float32")):
            said[name] = str(
                quantize(float32, folder / name, questions, precisions=("int8",), runtime=runtime)
            )
        quantise_dynamically(float32, folder / "dynamic")
        write_for_fastembed(checkpoint, float32, folder / "fastembed")
        write_for_faster_clip(checkpoint, folder / "faster_clip")
        verdicts.write_text(json.dumps(said))
    return Models(
        checkpoint,
        Bundle.open(folder / "float32"),
        Bundle.open(folder / "int8"),
        Bundle.open(folder / "portable"),
        folder / "dynamic",
        folder / "fastembed",
        folder / "faster_clip",
        json.loads(verdicts.read_text()),
    )


def write_checkpoint(directory: Path) -> None:
    """Save a model of the default configuration, which is that of ViT-B/32, and its processor."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    letters = pre_tokenizers.ByteLevel.alphabet()
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [f"unused{place}" for place in range(VOCABULARY - 2 - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: place for place, word in enumerate(words)}
    torch.manual_seed(0)
    ends = {"bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
    model = CLIPModel(CLIPConfig(text_config={"vocab_size": VOCABULARY, **ends}))
    for parameter in model.parameters():  # biases of 0 and gains of 1 would be optimised away
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float(parameter.mean()), std=0.02)
    model.save_pretrained(directory)
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(directory)
    CLIPImageProcessorPil().save_pretrained(directory)


def convert_checkpoint(checkpoint: Path, directory: Path) -> Bundle:
    """Do what `miniclip pull` does with a local checkpoint."""
    from miniclip.train.convert import convert

    return convert(checkpoint, directory, name="clip-vit-b-32-random", licence="none")


def crops_as_classes(photos: list[Path], folder: Path) -> ProbeQuestions:
    """Ask which photo a crop was cut from; features of random weights can tell."""
    random = np.random.default_rng(0)
    sources, labels = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for label, photo in enumerate(photos):
        image = decode(photo)
        for number in range(CROPS):
            side = int(min(image.size) * random.uniform(0.5, 0.9))
            left, top = (int(random.uniform(0, length - side)) for length in image.size)
            path = folder / f"{label}-{number}.png"
            crop = image.crop((left, top, left + side, top + side))
            crop.resize((256, 256), Image.Resampling.BICUBIC).save(path)
            sources.append(ImageSource.of(path))
            labels.append(label)
    names = tuple(f"photo {label}" for label in range(len(photos)))
    return ProbeQuestions(LabelledImages("crops", tuple(sources), np.array(labels), names))


def quantise_dynamically(bundle: Bundle, directory: Path) -> None:
    """Make what one gets from onnxruntime in a few lines."""
    directory.mkdir(exist_ok=True)
    for name in (IMAGE_FILE, TEXT_FILE):
        quantize_dynamic(
            bundle.path(name),
            directory / name,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"MatMulConstBOnly": True},
        )


def write_for_fastembed(checkpoint: Path, bundle: Bundle, directory: Path) -> None:
    """Export the image tower as it is, under the names that fastembed expects of this model."""
    import torch
    from transformers import CLIPVisionModelWithProjection

    from miniclip.train.export.onnx_graphs import traced

    class Embedding(torch.nn.Module):
        """The one output that is read."""

        def __init__(self) -> None:
            super().__init__()
            self.tower = CLIPVisionModelWithProjection.from_pretrained(checkpoint)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            embedding: torch.Tensor = self.tower(pixel_values=pixel_values).image_embeds
            return embedding

    directory.mkdir(exist_ok=True)
    inputs = {"pixel_values": torch.zeros(2, *bundle.manifest.image.shape)}
    axes = {"pixel_values": {0: torch.export.Dim("B")}}
    onnx.save(traced(Embedding(), inputs, axes, ("image_embeds",)), directory / "model.onnx")
    spec = bundle.manifest.image
    (directory / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "CLIPImageProcessor",
                "do_resize": True,
                "size": {"shortest_edge": spec.side},
                "do_center_crop": True,
                "crop_size": spec.side,
                "do_normalize": True,
                "image_mean": spec.mean,
                "image_std": spec.std,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
            }
        )
    )


def write_for_faster_clip(checkpoint: Path, directory: Path) -> None:
    """Put the weights where faster-clip keeps those of this model."""
    place = directory / "sentence-transformers__clip-ViT-B-32" / "0_CLIPModel"
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.safetensors").hardlink_to(checkpoint / "model.safetensors")
