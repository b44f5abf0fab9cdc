"""The page of a retrieval evaluation: its figures, and sentences with the images they find.

Hits and misses are marked, in words as well as colours. No figure is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniclip.datasets.captions import CaptionSet
from miniclip.evaluate.retrieval import RECALLS, Direction, RetrievalResult
from miniclip.evaluate.sheet import Question, RetrievalSheet
from miniclip.images import ImageSource
from miniclip.report.page import write_page

SHOWN_SKIPPED = 20


@dataclass(frozen=True)
class Shown:
    """An answer: an image for a sentence, a text for an image."""

    source: ImageSource | None
    text: str
    cosine: float
    right: bool


@dataclass(frozen=True)
class SheetRow:
    """A question, which is a text or an image, and its answers. rank: 1-based."""

    text: str
    source: ImageSource | None
    rank: int
    hit: bool
    answers: tuple[Shown, ...]


def write_retrieval_report(
    page: Path,
    result: RetrievalResult,
    sheet: RetrievalSheet,
    captions: CaptionSet,
    *,
    model: str,
    command: str,
) -> None:
    """Write the page; captions: what the numbers of the sheet mean. StoreError if it fails."""
    write_page(
        page,
        "retrieval.html",
        command=command,
        title=f"Retrieval on {captions.name}",
        result=result,
        model=model,
        recalls=RECALLS,
        percent=_percent,
        sentences=sentence_rows(sheet.sentences, captions),
        images=image_rows(sheet.images, captions),
        shown_skipped=SHOWN_SKIPPED,
    )


def sentence_rows(questions: Sequence[Question], captions: CaptionSet) -> list[SheetRow]:
    """Sentences with the images that they find."""
    texts = captions.texts
    return [
        SheetRow(
            texts[one.number],
            None,
            one.rank,
            one.hit,
            tuple(
                Shown(
                    captions.images[answer.number].source,
                    captions.images[answer.number].name,
                    answer.cosine,
                    answer.right,
                )
                for answer in one.answers
            ),
        )
        for one in questions
    ]


def image_rows(questions: Sequence[Question], captions: CaptionSet) -> list[SheetRow]:
    """Images with the sentences that they find."""
    texts = captions.texts
    return [
        SheetRow(
            captions.images[one.number].name,
            captions.images[one.number].source,
            one.rank,
            one.hit,
            tuple(
                Shown(None, texts[answer.number], answer.cosine, answer.right)
                for answer in one.answers
            ),
        )
        for one in questions
    ]


def _percent(direction: Direction, name: str) -> str:
    low, high = direction.intervals[name]
    return f"{100 * direction.scores[name]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
