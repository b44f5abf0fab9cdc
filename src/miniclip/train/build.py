"""From the settings of a recipe to a `TwoTower`, fresh from its pretrained parts. No data."""

from __future__ import annotations

import torch
from torch import nn

from miniclip.train.heads import build_head
from miniclip.train.model import LearningRates, TwoTower
from miniclip.train.recipe import Head, Recipe
from miniclip.train.towers.described import DescribedTower
from miniclip.train.towers.image import load_image_tower
from miniclip.train.towers.text import load_text_tower


def build_model(recipe: Recipe) -> TwoTower:
    """Load both towers and put fresh heads on them, the same for the same seed.

    A part whose learning rate is 0 needs no gradient. TrainingError as the towers raise it.
    """
    image, text, rates = recipe.image, recipe.text, recipe.train.rates
    image_tower = load_image_tower(image.tower, side=image.side)
    if image.layers == "all":
        image_tower = DescribedTower(image_tower)
    text_tower = load_text_tower(
        text.tower,
        pooling=text.pooling,
        context_length=text.context_length,
        dropout=text.dropout,
    )
    torch.manual_seed(recipe.seed)
    width = recipe.loss.embedding
    model = TwoTower(
        image_tower,
        text_tower,
        _head(image.head, image_tower.feature_dim, width),
        _head(text.head, text_tower.feature_dim, width),
        image_trainable=image.trainable,
        image_cut=image.cut,
        image_centre=image.centre,
        text_trainable=text.trainable if rates.text_tower else "none",
        train_embeddings=text.embeddings,
        scale=recipe.loss.scale,
        bias=recipe.loss.bias if recipe.loss.name == "sigmoid" else None,
    )
    if not rates.image_tower:
        model.image_tower.requires_grad_(False)
    if not rates.heads:
        model.image_head.requires_grad_(False)
        model.text_head.requires_grad_(False)
    if not rates.scale:
        model.log_scale.requires_grad_(False)
        model.bias.requires_grad_(False)
    return model


def learning_rates(recipe: Recipe) -> LearningRates:
    """Return the peak rates in the form that the model wants."""
    rates = recipe.train.rates
    return LearningRates(rates.image_tower, rates.text_tower, rates.heads, rates.scale)


def _head(settings: Head, features: int, embedding: int) -> nn.Module:
    return build_head(
        settings.kind,
        features,
        embedding,
        hidden=settings.hidden,
        dropout=settings.dropout,
        norm=settings.norm,
        input_dropout=settings.input_dropout,
        bias=settings.bias,
    )
