"""The demonstration: what a model makes of twenty photos, ten sentences and ten labels.

The photos come with scikit-image and scikit-learn. Sentences and labels were written from the
photos alone, before any model was tried on them, and stay as they are: the score is only worth
something that way. The other ten photos are there to be mistaken. It draws and prints nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from miniclip.embed import embed_all
from miniclip.encoder import Encoder
from miniclip.errors import DatasetError, MissingExtraError, StoreError
from miniclip.images import ImageSource
from miniclip.index.search import Hit, best_hits, best_rows
from miniclip.zeroshot import class_vectors, probabilities


@dataclass(frozen=True)
class Question:
    """A photo with the sentence and the label that belong to it."""

    photo: str
    sentence: str
    label: str


QUESTIONS = (
    Question("astronaut.png", "an astronaut in an orange space suit", "astronaut"),
    Question("camera.png", "a man looking through a camera on a tripod", "photographer"),
    Question("chelsea.png", "the face of a brown cat", "cat"),
    Question("coffee.png", "a cup of coffee on a wooden table", "cup of coffee"),
    Question("coins.png", "rows of old coins", "coins"),
    Question("motorcycle_left.png", "a red motorcycle parked in a garage", "motorcycle"),
    Question("rocket.jpg", "a rocket on its launch pad in the evening", "rocket"),
    Question("horse.png", "the black shape of a horse", "horse"),
    Question("china.jpg", "a Chinese tower with trees around it", "temple"),
    Question("flower.jpg", "an orange flower in front of dark leaves", "flower"),
)
OTHERS = (
    "brick.png",
    "cell.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "page.png",
    "retina.jpg",
    "text.png",
)
PHOTOS = tuple(sorted((*(question.photo for question in QUESTIONS), *OTHERS)))
LABELS = tuple(question.label for question in QUESTIONS)
# Where the photos lie inside the two packages; they are read as files, nothing is imported.
_FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))


@dataclass(frozen=True)
class Found:
    """One sentence: the photos that fit it best, and whether the first is the right one."""

    question: Question
    hits: tuple[Hit, ...]

    @property
    def right(self) -> bool:
        """Whether the photo at rank 1 is the one that the sentence was written for."""
        return self.hits[0].path.name == self.question.photo


@dataclass(frozen=True)
class Named:
    """One photo: the sentence that fits it best (a cosine), and its likeliest labels."""

    question: Question
    path: Path
    sentence: str
    score: float
    labels: tuple[tuple[str, float], ...]

    @property
    def sentence_right(self) -> bool:
        """Whether the best sentence is the photo's own."""
        return self.sentence == self.question.sentence

    @property
    def label_right(self) -> bool:
        """Whether the likeliest label is the photo's own."""
        return self.labels[0][0] == self.question.label


@dataclass(frozen=True)
class DemoResult:
    """What the model made of it: sentence -> photo, then photo -> sentence and photo -> label."""

    model: str
    found: tuple[Found, ...]
    named: tuple[Named, ...]

    @property
    def sentences_right(self) -> int:
        """How many sentences have the right photo at rank 1."""
        return sum(found.right for found in self.found)

    @property
    def photos_right(self) -> int:
        """How many photos have their own sentence at rank 1."""
        return sum(named.sentence_right for named in self.named)

    @property
    def labels_right(self) -> int:
        """How many photos have their own label as the likeliest."""
        return sum(named.label_right for named in self.named)


def copy_photos(folder: Path) -> list[Path]:
    """Copy the twenty photos into a folder, which is made if absent, and return them by name.

    MissingExtraError without scikit-image, StoreError when the folder cannot be written.
    """
    places = [_package_folder(*place) for place in _FOLDERS]
    paths = []
    for photo in PHOTOS:
        source = next((place / photo for place in places if (place / photo).is_file()), None)
        if source is None:
            raise DatasetError(
                f"the demo photo {photo} does not come with this version of scikit-image; "
                "install another one with: pip install 'scikit-image==0.26.0'"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(Path(shutil.copyfile(source, folder / photo)))
        except OSError as error:
            raise StoreError(
                f"cannot write {folder / photo} ({error.strerror or error}); choose another folder"
            ) from error
    return paths


def run_demo(encoder: Encoder, photos: Sequence[Path], *, top: int = 3) -> DemoResult:
    """Search the photos with each sentence, and name each of the photos that has a question."""
    images = embed_all(encoder, map(ImageSource.of, photos))
    for skipped in images.skipped:
        raise DatasetError(f"the demo photo {skipped.name} is damaged: {skipped.reason}")
    texts = encoder.encode_texts([question.sentence for question in QUESTIONS])
    shares = probabilities(encoder, images.embeddings, class_vectors(encoder, LABELS))
    row_of = {path.name: row for row, path in enumerate(photos)}
    found, named = [], []
    for question, text in zip(QUESTIONS, texts, strict=True):
        found.append(Found(question, best_hits(photos, images.embeddings, text, top=top)))
        row = row_of[question.photo]
        (best,), (score,) = best_rows(texts, images.embeddings[row], top=1)
        ranked = sorted(zip(LABELS, map(float, shares[row]), strict=True), key=lambda it: -it[1])
        named.append(
            Named(
                question,
                photos[row],
                sentence=QUESTIONS[best].sentence,
                score=float(score),
                labels=tuple(ranked[:top]),
            )
        )
    return DemoResult(encoder.name, tuple(found), tuple(named))


def _package_folder(package: str, folder: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise MissingExtraError("The demo", "demo")
    return Path(found.origin).parent / folder
