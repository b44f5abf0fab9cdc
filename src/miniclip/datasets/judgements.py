"""What people say about captions of images: the files of Flickr8k-Expert and Flickr8k-CF.

Hodosh, Young and Hockenmaier 2013, "Framing Image Description as a Ranking Task": captions of other
images are judged beside an image's own. Both files have tab-separated columns and no header:
ExpertAnnotations.txt  image, caption id, three ratings from 1 to 4;
CrowdFlowerAnnotations.txt  image, caption id, share of yes, how many said yes, how many said no.
A caption id such as `name.jpg#2` is a line of Flickr8k.token.txt. It opens no image.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from miniclip.datasets.rows import line_name, text_lines
from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.images import ImageSource

Judges = Literal["expert", "crowdflower"]
_COLUMNS = 5
_ROUNDED = 1e-3  # the share of yes is written with few digits


@dataclass(frozen=True)
class Judgement:
    """What people say about one caption of one image.

    image: number of the image. ratings: one of each expert, 1 to 4; or the share of yes, 0 to 1.
    own: whether the caption was written for this very image.
    """

    image: int
    caption: str
    ratings: tuple[float, ...]
    own: bool


@dataclass(frozen=True)
class JudgementSet:
    """Judged captions of N images; references: the captions written for each image."""

    name: str
    judges: Judges
    sources: tuple[ImageSource, ...]
    references: tuple[tuple[str, ...], ...]
    judgements: tuple[Judgement, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)


def read_judgements(judgements: Path, captions: Path, images: Path | None = None) -> JudgementSet:
    """Read a file of judgements, the captions that it is about, and where the images are.

    Which of the two kinds it is, its numbers tell. images: a folder; None for that of `captions`.
    Lines without such a caption or image file are skipped by name. DatasetError when nothing is
    left or the lines are of neither kind.
    """
    text_of, skipped = _read_texts(captions)
    references: dict[str, list[str]] = {}
    for caption_id, text in text_of.items():
        references.setdefault(caption_id.rpartition("#")[0], []).append(text)
    folder = images if images is not None else captions.parent
    rows, judges = _read_rows(judgements, skipped)
    number_of: dict[str, int] = {}
    kept: list[Judgement] = []
    for where, image, caption_id, numbers in rows:
        if caption_id not in text_of:
            skipped.append(Skipped(where, f"no caption {caption_id} in {captions.name}"))
        elif image not in number_of and not os.path.isfile(folder / image):
            skipped.append(Skipped(where, f"no image file {image} in {folder}"))
        else:
            caption = text_of[caption_id]
            number = number_of.setdefault(image, len(number_of))
            own = caption in references.get(image, ())
            kept.append(
                Judgement(number, caption, numbers if judges == "expert" else numbers[:1], own)
            )
    if not kept:
        first = f"; first: {skipped[0].name}: {skipped[0].reason}" if skipped else ""
        raise DatasetError(
            f"nothing usable in {judgements} ({len(skipped)} skipped{first}); "
            f"check the captions {captions} and the image folder {folder}"
        )
    return JudgementSet(
        name=judgements.stem,
        judges=judges,
        sources=tuple(ImageSource(name=name, path=folder / name) for name in number_of),
        references=tuple(tuple(references.get(name, ())) for name in number_of),
        judgements=tuple(kept),
        skipped=tuple(skipped),
    )


def _read_texts(captions: Path) -> tuple[dict[str, str], list[Skipped]]:
    """Captions by id, with single spaces."""
    text_of: dict[str, str] = {}
    skipped: list[Skipped] = []
    for line in text_lines(captions):
        if isinstance(line, Skipped):
            skipped.append(line)
            continue
        caption_id, _, text = line.text.partition("\t")
        if "#" not in caption_id or not text.strip():
            where = line_name(captions, line.number)
            skipped.append(Skipped(where, f"not like name.jpg#0<TAB>caption: {line.text[:80]!r}"))
        else:
            text_of[caption_id.strip()] = " ".join(text.split())
    return text_of, skipped


_Line = tuple[str, str, str, tuple[float, ...]]  # where, image, caption id, the three numbers


def _read_rows(path: Path, skipped: list[Skipped]) -> tuple[list[_Line], Judges]:
    rows: list[_Line] = []
    kinds: set[Judges] = set()
    for line in text_lines(path):
        if isinstance(line, Skipped):
            skipped.append(line)
            continue
        where, fields = line_name(path, line.number), line.text.split("\t")
        numbers = _numbers(fields[2:])
        kind = _kind(numbers) if len(fields) == _COLUMNS else None
        if kind is None:
            skipped.append(Skipped(where, f"neither ratings nor shares: {line.text[:80]!r}"))
        else:
            kinds.add(kind)
            rows.append((where, fields[0].strip(), fields[1].strip(), numbers))
    if len(kinds) != 1:
        raise DatasetError(
            f"{path} holds {'both ratings and shares' if kinds else 'no judgements'}; give a file "
            "like ExpertAnnotations.txt (image, caption id, three ratings from 1 to 4) or "
            "CrowdFlowerAnnotations.txt (image, caption id, share of yes, yes, no)"
        )
    return rows, kinds.pop()


def _numbers(fields: list[str]) -> tuple[float, ...]:
    try:
        return tuple(map(float, fields))
    except ValueError:
        return ()


def _kind(numbers: tuple[float, ...]) -> Judges | None:
    """Tell the two apart: they have no line in common, as no rating is 0."""
    if len(numbers) != 3:
        return None
    if all(number in (1, 2, 3, 4) for number in numbers):
        return "expert"
    share, yes, no = numbers
    counted = min(yes, no) >= 0 and yes + no > 0
    return "crowdflower" if counted and abs(share - yes / (yes + no)) < _ROUNDED else None
