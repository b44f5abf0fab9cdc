"""What the bundle that ships makes of its features stays behind a tuned tower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from miniclip import load_encoder
from miniclip.arrays import unit_rows
from miniclip.bundle import IMAGE_FILE, Bundle
from miniclip.preprocess import preprocess
from miniclip.pull.probes import probe_photos
from miniclip.train.export.onnx_graphs import trunk_graph
from miniclip.train.finetune.export import _with_projection

pytestmark = pytest.mark.train


class Remembering(nn.Module):
    """A tower that gives the same features whatever it sees."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = nn.Parameter(features)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.features + 0 * pixels.mean(dim=(1, 2, 3), keepdim=False)[:, None]


def test_features_of_the_shipped_bundle_are_projected_as_before(tmp_path: Path) -> None:
    bundle = Bundle.resolve(None)
    pixels = preprocess(probe_photos()[0], bundle.manifest.image)[None]
    embedding, features = load_encoder().encode_pixels(pixels)
    tower = trunk_graph(Remembering(torch.from_numpy(features.copy())), 32)
    old = onnx.load(bundle.path(IMAGE_FILE))
    joined = _with_projection(tower, old, bundle.manifest.feature_parts[0])
    onnx.save(joined, tmp_path / "joined.onnx")
    session = ort.InferenceSession(tmp_path / "joined.onnx")
    anything = np.ones((1, 3, 32, 32), dtype=np.float32)
    found = session.run(["embedding", "features"], {"pixels": anything})
    np.testing.assert_allclose(unit_rows(found[0]), embedding, atol=1e-5)
    np.testing.assert_allclose(found[1], features, atol=1e-6)
