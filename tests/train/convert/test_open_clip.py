"""OpenCLIP checkpoints, through a library of that name that stands in for the one not here.

The stand-in has the real one's functions and a small CLIP; what it cannot show is that the real one
still has them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import Tensor, nn

from miniclip.bundle import Bundle
from miniclip.errors import BundleError, ExportError
from miniclip.onnx_encoder import OnnxEncoder
from miniclip.pull.parity import encode_probes
from miniclip.train.convert.open_clip import convert_open_clip
from tests.hub_checkpoints import SIDE, checkpoint

pytestmark = pytest.mark.train

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CONTEXT = 77


class OpenClip(nn.Module):
    """What open_clip.CLIP gives out, around a model of transformers."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        clip: Any = transformers.CLIPModel.from_pretrained(directory)
        self.visual, self.image_projection = clip.vision_model, clip.visual_projection
        self.text, self.text_projection = clip.text_model, clip.text_projection
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        embedding = self.image_projection(self.visual(image).pooler_output)
        return nn.functional.normalize(embedding, dim=-1) if normalize else embedding

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        embedding = self.text_projection(self.text(text).pooler_output)
        return nn.functional.normalize(embedding, dim=-1) if normalize else embedding


def transform(photo: Image.Image) -> Tensor:
    """Resize and cut as torchvision does."""
    short = min(photo.size)
    width, height = (int(SIDE * length / short) for length in photo.size)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    cut = photo.resize((width, height), Image.Resampling.BICUBIC)
    cut = cut.crop((left, top, left + SIDE, top + SIDE))
    pixels = (np.asarray(cut, dtype=np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.float32(pixels.transpose(2, 0, 1)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an OpenCLIP checkpoint, and beside it the one that the stand-in loads."""
    root = tmp_path_factory.mktemp("open_clip")
    hidden = checkpoint("clip", root / "hidden")
    directory = root / "my-open-clip"
    directory.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(hidden / name, directory / name)
    config = {
        "embed_dim": 48,
        "vision_cfg": {"image_size": SIDE, "layers": 2},
        "text_cfg": {"context_length": CONTEXT},
    }
    path = directory / "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": MEAN}}))
    return directory


@pytest.fixture
def stand_in(source: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    hidden = source.parent / "hidden"
    own: Any = transformers.AutoTokenizer.from_pretrained(hidden)

    def tokenize(texts: list[str]) -> Tensor:
        cleaned = [" ".join(text.split()) for text in texts]
        options = {"padding": "max_length", "max_length": CONTEXT, "truncation": True}
        ids: Tensor = own(cleaned, return_tensors="pt", **options).input_ids
        return ids

    preprocess = {"size": SIDE, "mode": "RGB", "mean": MEAN, "std": STD, "fill_color": 0}
    preprocess |= {"interpolation": "bicubic", "resize_mode": "shortest"}
    module: Any = ModuleType("open_clip")
    module.create_model_and_transforms = lambda _where: (OpenClip(hidden), None, transform)
    module.get_tokenizer = lambda _where: tokenize
    module.get_model_preprocess_cfg = lambda _model: preprocess
    monkeypatch.setitem(sys.modules, "open_clip", module)
    return module


def pulled(source: Path, out: Path, **options: Any) -> Bundle:
    return convert_open_clip(source, out, name="mine", licence="MIT", **options)


def test_the_bundle_gives_the_vectors_of_the_library(
    source: Path, stand_in: ModuleType, tmp_path: Path
) -> None:
    bundle = pulled(source, tmp_path / "bundle", origin="owner/mine", revision="abc")

    manifest = bundle.manifest
    assert manifest.image.crop == "round"
    assert manifest.feature_dim == 128
    assert manifest.logit_scale == pytest.approx(np.exp(3.0))
    assert manifest.provenance["source"] == "owner/mine"
    assert manifest.parity.image_cosine_min > 0.99999
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, 47, 3), np.uint8))
    model = OpenClip(source.parent / "hidden").eval()
    with torch.no_grad():
        expected = model.encode_image(transform(photo)[None], normalize=True).numpy()
    from miniclip.preprocess import preprocess  # noqa: PLC0415

    found = OnnxEncoder.open(bundle).encode_pixels(preprocess(photo, manifest.image)[None])
    assert found.embeddings == pytest.approx(expected, abs=1e-5)


def test_smaller_weights_are_measured_against_the_library_too(
    source: Path, stand_in: ModuleType, tmp_path: Path
) -> None:
    bundle = pulled(source, tmp_path / "bundle", precision="float16")
    assert bundle.manifest.weights == {"image": "float16", "text": "float16"}
    assert 0.999 < bundle.manifest.parity.image_cosine_min < 1
    assert encode_probes(OnnxEncoder.open(bundle)).images.shape == (32, 48)


def test_tokens_that_differ_from_the_library_s_are_refused(
    source: Path, stand_in: Any, tmp_path: Path
) -> None:
    tokenize = stand_in.get_tokenizer("")
    stand_in.get_tokenizer = lambda _where: lambda texts: tokenize([text[:9] for text in texts])
    with pytest.raises(ExportError, match="the cosine of sentence"):
        pulled(source, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_without_the_library_the_cure_is_said(
    source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(BundleError, match="pip install open_clip_torch"):
        pulled(source, tmp_path / "bundle")
