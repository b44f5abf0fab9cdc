"""A trained model said as a VisionTextDualEncoder: the same vectors, or a reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from miniclip.errors import ExportError
from miniclip.train.export.dual_encoder import dual_encoder
from miniclip.train.heads import build_head
from miniclip.train.model import TwoTower
from miniclip.train.towers.image import load_image_tower
from miniclip.train.towers.text import load_text_tower
from tests.train.tiny_checkpoints import SIDE, image_checkpoint, text_checkpoint

D = 8
IDS = torch.tensor([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
MASK = (IDS > 0).long()


def linear_model(
    directory: Path,
    image: str = "vit",
    text: str = "bert",
    *,
    pooling: Any = "pooler",
    text_bias: bool = False,
    width: int = D,
    **options: Any,
) -> TwoTower:
    """Two towers, standardised image features, and heads in which no number is special."""
    image_tower = load_image_tower(image_checkpoint(image, directory / "image"))
    text_tower = load_text_tower(text_checkpoint(text, directory / "text"), pooling=pooling)
    torch.manual_seed(4)
    model = TwoTower(
        image_tower,
        text_tower,
        build_head("linear", image_tower.feature_dim, width),
        build_head("linear", text_tower.feature_dim, width, bias=text_bias),
        scale=12.0,
        **options,
    )
    for parameter in (*model.image_head.parameters(), *model.text_head.parameters()):
        torch.nn.init.normal_(parameter)
    size = image_tower.feature_dim
    model.standardise_features(torch.linspace(-1, 1, size), torch.linspace(0.3, 2, size))
    return model.eval()


@pytest.mark.parametrize(
    ("image", "text", "text_bias"),
    [
        ("vit", "bert", False),  # class token; the bias goes into a pooler that is made for it
        ("clip", "clip", True),  # biases go into the last LayerNorms
        ("dinov2", "clip", True),
    ],
)
def test_it_gives_the_vectors_and_logits_of_the_model(
    image: str, text: str, text_bias: bool, tmp_path: Path
) -> None:
    model = linear_model(tmp_path, image, text, text_bias=text_bias)
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    dual = dual_encoder(model)
    with torch.no_grad():
        images, texts = model.encode_image(pixels), model.encode_text(IDS, MASK)
        found = dual(input_ids=IDS, attention_mask=MASK, pixel_values=pixels)
    torch.testing.assert_close(found.image_embeds, images, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.text_embeds, texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.logits_per_image, 12 * images @ texts.T, atol=1e-3, rtol=0)


def test_the_model_itself_stays_as_it_was(tmp_path: Path) -> None:
    model = linear_model(tmp_path, "clip", "clip", text_bias=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dual_encoder(model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"image": "resnet"}, "a resnet says no hidden_size"),
        ({"image": "convnext"}, "a convnext says no hidden_size"),
        ({"text": "distilbert", "pooling": "mean"}, r"pools its tokens by 'mean' \(text.pooling\)"),
        ({"pooling": "cls"}, r"pools its tokens by 'cls' \(text.pooling\)"),
        ({"text_bias": True}, r"no place behind the pooler of a bert \(text.head.bias\)"),
        ({"bias": -2.0}, r"its logits have a bias \(-2\)"),
        ({"image_centre": 0.7}, r"looks at each photo twice \(image.centre\)"),
        ({"width": 24}, r"the image head adds what no features give \(image.head.bias\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_that_architecture_cannot_say_is_named(
    change: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=f"{why}.*docs/share.md"):
        dual_encoder(linear_model(tmp_path, **change))


def test_what_training_drops_from_the_input_hides_no_linear_head(tmp_path: Path) -> None:
    model = linear_model(tmp_path)
    plain = dual_encoder(model).visual_projection.weight
    model.image_head = torch.nn.Sequential(torch.nn.Dropout(0.3), model.image_head)
    torch.testing.assert_close(dual_encoder(model.eval()).visual_projection.weight, plain)

    model.image_head = torch.nn.Sequential(*model.image_head, torch.nn.LayerNorm(D))
    with pytest.raises(ExportError, match="image head is not a linear map alone"):
        dual_encoder(model)


def test_another_head_is_named(tmp_path: Path) -> None:
    model = linear_model(tmp_path)
    model.text_head = build_head("projection", model.text_tower.feature_dim, D)
    with pytest.raises(ExportError, match=r"text head is not a linear map alone \(text.head.kind"):
        dual_encoder(model)
