"""What is asked about a picture: how near it is to a text, or how likely a class is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from miniclip.encoder import Encoder, ImageVectors
from miniclip.explain.scores import class_logits, cosine_to, log_odds_of
from miniclip.explain.subject import Score
from miniclip.explain.words import Word, word_drops
from miniclip.preprocess import preprocess
from miniclip.probe.calibration import softmax
from miniclip.probe.model import ClassifierModel


@dataclass(frozen=True)
class Question:
    """A score with its name.

    text: a text, whose cosine is asked for, with what each of its words carries; else label: a
    class, whose log-odds are asked for in nats, with its calibrated probability. value: the score
    of the whole picture.
    """

    score: Score = field(repr=False)
    value: float
    text: str | None = None
    words: tuple[Word, ...] = ()
    label: str | None = None
    probability: float | None = None

    @property
    def title(self) -> str:
        """The text or the class, for people."""
        return self.text if self.text is not None else f"class {self.label}"

    @property
    def unit(self) -> str:
        """What the score is."""
        return "cosine" if self.text is not None else "log-odds"

    def __str__(self) -> str:
        share = f", probability {self.probability:.1%}" if self.probability is not None else ""
        return f"{self.title}: {self.unit} {self.value:.3f}{share}"

    def to_dict(self) -> dict[str, Any]:
        """Return the part of `miniclip explain --json` that says what was asked."""
        if self.text is not None:
            words = [word.to_dict() for word in self.words]
            return {"text": self.text, "unit": self.unit, "words": words}
        return {"class": self.label, "unit": self.unit, "probability": self.probability}


def ask_text(encoder: Encoder, image: Image.Image, text: str) -> Question:
    """Ask for the cosine of a picture and a text; ConfigError for a text without words."""
    (seen,) = _vectors(encoder, image).embeddings
    words = word_drops(encoder, text, seen)
    (vector,) = encoder.encode_texts([text])
    return Question(cosine_to(vector), float(seen @ vector), text=text, words=words)


def ask_class(
    encoder: Encoder, image: Image.Image, model: ClassifierModel, label: str | None = None
) -> Question:
    """Ask for the log-odds of a class, the likeliest one if None.

    BundleError for another encoder than that of the fit, ConfigError for a class that the model
    does not have.
    """
    model.check_encoder(encoder.name, encoder.fingerprint)
    vectors = _vectors(encoder, image)
    (shares,) = softmax(class_logits(model, vectors), 1.0)
    label = label if label is not None else model.classes[int(shares.argmax())]
    score = log_odds_of(model, label)
    probability = float(shares[model.classes.index(label)])
    return Question(score, float(score(vectors)[0]), label=label, probability=probability)


def _vectors(encoder: Encoder, image: Image.Image) -> ImageVectors:
    return encoder.encode_pixels(preprocess(image, encoder.image_spec)[None])
