"""What is asked of the vectors of pictures: how near they are to a text, how likely a class is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.errors import ConfigError
from miniclip.explain.subject import Score
from miniclip.probe.heads.head import Rows
from miniclip.probe.model import ClassifierModel


def cosine_to(vector: FloatArray) -> Score:
    """Score pictures by their cosine to a vector (D,) of unit length, of a text or a picture."""
    return lambda vectors: vectors.embeddings @ vector


def log_odds_of(model: ClassifierModel, label: str) -> Score:
    """Score pictures by the calibrated log-odds of a class, in nats: log p - log(1 - p).

    Of the plain view alone, whatever views the model averages. Unlike the probability, log-odds
    still move where the model is sure. ConfigError for a class that it does not have.
    """
    if label not in model.classes:
        raise ConfigError(
            f"the model has no class {label!r}; choose one of {', '.join(model.classes)}"
        )
    column = model.classes.index(label)

    def score(vectors: ImageVectors) -> NDArray[np.float64]:
        logits = class_logits(model, vectors)
        others = np.delete(logits, column, axis=1)
        odds: NDArray[np.float64] = logits[:, column] - logsumexp(others, axis=1)
        return odds

    return score


def class_logits(model: ClassifierModel, vectors: ImageVectors) -> NDArray[np.float64]:
    """Return calibrated logits (B, C); their softmax are the probabilities of the plain view."""
    rows = Rows(vectors.features, vectors.embeddings)
    logits: NDArray[np.float64] = model.head.scores(rows) / model.rules.temperature
    return logits
