"""The answers of the API, which the client returns too; requests are forms, described in `api`.

Cosines run from -1 to 1, probabilities and confidences from 0 to 1. `image` and `text` are places
in the request, from 0.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """What all answers share: they are values."""

    model_config = ConfigDict(frozen=True)


class Skipped(Answer):
    """An image that could not be read, and why."""

    image: int = Field(examples=[1])
    reason: str = Field(examples=["the file is empty (0 bytes); restore it from its source"])


class EmbeddedImage(Answer):
    """embedding: unit length, in the space shared with texts. features: before the projection."""

    image: int = Field(examples=[0])
    embedding: list[float] = Field(examples=[[0.6, -0.8]])
    features: list[float] | None = None


class EmbeddedText(Answer):
    """embedding: of unit length."""

    text: int = Field(examples=[0])
    embedding: list[float] = Field(examples=[[0.8, -0.6]])


class Embedded(Answer):
    """Vectors of images and texts. fingerprint: equal fingerprints give equal vectors."""

    model: str = Field(examples=["default"])
    fingerprint: str
    images: list[EmbeddedImage]
    texts: list[EmbeddedText]
    skipped: list[Skipped]


class Hit(Answer):
    """An image of the index. url: where to get it. alike: near-duplicates folded into it."""

    id: int = Field(examples=[17])
    path: str = Field(examples=["holiday/beach.jpg"])
    score: float = Field(examples=[0.31], description="The cosine, by which the model ranks.")
    confidence: float | None = Field(
        None, examples=[0.93], description="That it shows what is asked; it ranks nothing."
    )
    captions: list[str] = []
    url: str = Field(examples=["/v1/images/17"])
    alike: list[int] = []


class Found(Answer):
    """hits: best first. closest: when nothing matches, what came nearest. more: another page."""

    hits: list[Hit]
    closest: Hit | None = None
    more: bool
    min_confidence: float


class ScoredText(Answer):
    """A sentence and its cosine with the image."""

    text: str = Field(examples=["a dog runs on the beach"])
    score: float = Field(examples=[0.28])


class Matched(Answer):
    """The sentences that fit best, best first."""

    hits: list[ScoredText]


class Label(Answer):
    """A label and its probability."""

    label: str = Field(examples=["cat"])
    probability: float = Field(examples=[0.97])


class ClassifiedImage(Answer):
    """labels: the likeliest first; all labels of the request together have probability 1."""

    image: int = Field(examples=[0])
    labels: list[Label]


class Classified(Answer):
    """Images named with labels of the request, untrained."""

    model: str = Field(examples=["default"])
    images: list[ClassifiedImage]
    skipped: list[Skipped]


class Neighbour(Answer):
    """A training image that looks alike; cosine: of the features."""

    path: str
    cosine: float


class PredictedImage(Answer):
    """What a classifier says, as `miniclip predict`. decision: auto, review or out-of-scope."""

    image: int = Field(examples=[0])
    labels: list[Label]
    set: list[str] = Field(examples=[["glass"]])
    decision: str = Field(examples=["auto"])
    reason: str = Field(examples=["sure enough: 98.1%, 87.0% is needed"])
    nearest: list[Neighbour]


class Predicted(Answer):
    """Images judged by a fitted classifier."""

    model: str = Field(examples=["trashnet"])
    images: list[PredictedImage]
    skipped: list[Skipped]


class Explained(Answer):
    """What in a picture drives a score: see `miniclip explain`, whose JSON this is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    score: float = Field(examples=[0.27])
    unit: str = Field(examples=["cosine"])
    method: str = Field(examples=["both"])
    map: list[list[float]]
    box: list[float]
    credibility: dict[str, Any]


class Encoding(Answer):
    """The model behind all answers."""

    name: str
    fingerprint: str
    embedding_dim: int
    feature_dim: int
    texts: bool


class ClassifierCard(Answer):
    """A fitted classifier that /v1/predict knows by name."""

    name: str
    classes: list[str]
    views: str


class IndexCard(Answer):
    """The collection that /v1/search looks in."""

    images: int


class Limits(Answer):
    """What one request may hold."""

    max_bytes: int
    max_pixels: int
    max_images: int
    max_texts: int
    max_letters: int
    timeout_seconds: float


class Models(Answer):
    """What this server can do."""

    version: str
    encoder: Encoding
    classifiers: list[ClassifierCard]
    index: IndexCard | None
    limits: Limits


class Health(Answer):
    """Whether the server lives, or is ready."""

    status: str = Field(examples=["ok"])


class Problem(Answer):
    """code: what went wrong, for programs; message: for people, with the cure."""

    code: str = Field(examples=["image"])
    message: str = Field(examples=["the file is empty (0 bytes); restore it from its source"])
    request_id: str = Field(examples=["5f0c1e9a7b3d4e21"])


class Failure(Answer):
    """The body of every answer that is no success."""

    error: Problem
