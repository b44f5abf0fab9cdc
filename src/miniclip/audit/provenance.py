"""What went into a folder of images: kinds, sizes, dates, repeats, licences, and traces of people.

It counts and names tags; no value of a tag about a person is in its result. Nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.audit.copies import Stripped
from miniclip.audit.identity import KINDS, Kind, Trace, traces_of
from miniclip.cpus import usable_cpus
from miniclip.embed import Progress, Skipped
from miniclip.errors import ImageError
from miniclip.images import Header, ImageSource, read_header
from miniclip.index.contents import digest_of
from miniclip.index.metadata import Metadata, read_metadata
from miniclip.index.near_duplicates import CORRELATION, alike_pairs, grey_rows
from miniclip.probe.groups import join_pairs
from miniclip.probe.results import to_json

_AT_ONCE = 128  # images in memory
_SHAPE = 0.05  # by which the logarithms of width / height of one picture may differ
UNSAID = "says nothing"


class Quartiles(NamedTuple):
    """Least, median and largest."""

    least: float
    median: float
    largest: float


@dataclass(frozen=True)
class Traced:
    """A file that tells something of people: which tags, by kind."""

    name: str
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class DataAudit:
    """What a folder holds.

    formats, cameras, years, licences: images by each. pixels: of an image; bytes: in all. exact,
    near: files beyond the first of each picture, to the byte and by their looks; repeats: the
    groups, by name. traces: how many images hold each kind; traced: which. fingerprint: sha256 over
    the contents.
    """

    name: str
    images: int
    bytes: int
    pixels: Quartiles
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    cameras: Mapping[str, int]
    years: Mapping[str, int]
    licences: Mapping[str, int]
    exact: int
    near: int
    repeats: tuple[tuple[str, ...], ...]
    traces: Mapping[Kind, int]
    traced: tuple[Traced, ...]
    fingerprint: str
    skipped: tuple[Skipped, ...] = ()
    stripped: Stripped | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what `miniclip audit data --json` prints."""
        facts = {entry.name: to_json(getattr(self, entry.name)) for entry in fields(self)}
        return {"data": facts.pop("name"), **facts}

    def __str__(self) -> str:
        lines = [
            f"{self.images:,} images, {self.bytes / 1e6:,.1f} MB: {_counts(self.formats)}",
            f"taken: {_counts(self.years)}",
            f"cameras: {_counts(self.cameras)}",
            f"licences: {_counts(self.licences)}",
            f"repeats: {self.exact:,} exact copies, {self.near:,} near ones",
        ]
        for kind, count in self.traces.items():
            lines.append(f"{count:,} images tell {KINDS[kind]} ({kind})")
        if not self.traces:
            lines.append("no image tells anything of people besides its picture")
        if self.stripped:
            lines.append(f"wrote {self.stripped.written:,} clean copies to {self.stripped.folder}")
        return "\n".join(lines)


class _Seen(NamedTuple):
    name: str
    content: bytes
    header: Header
    metadata: Metadata
    traces: tuple[Trace, ...]
    licence: str


def audit_data(paths: Iterable[Path], *, root: Path, progress: Progress | None = None) -> DataAudit:
    """Look at every image below `root` once; files that cannot be read are named in `skipped`.

    Near copies are found as by `miniclip duplicates`: their small grey copies correlate by 0.97.
    Their time grows with the square of the number of images.
    """
    seen: list[_Seen] = []
    skipped: list[Skipped] = []
    greys: list[NDArray[np.float16]] = []
    waiting = iter(paths)
    done = 0
    with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="miniclip-audit") as pool:
        while batch := list(islice(waiting, _AT_ONCE)):
            found = list(pool.map(lambda path: _look(path, root), batch))
            good = [one for one in found if isinstance(one, _Seen)]
            skipped += [one for one in found if isinstance(one, Skipped)]
            kept = [
                ImageSource.of(path)
                for path, one in zip(batch, found, strict=True)
                if isinstance(one, _Seen)
            ]
            greys.append(grey_rows(kept).astype(np.float16))
            seen += good
            done += len(batch)
            if progress:
                progress(done)
    return _result(root.resolve().name, seen, np.concatenate(greys) if seen else None, skipped)


def _look(path: Path, root: Path) -> _Seen | Skipped:
    source = ImageSource.of(path)
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        header = read_header(source)
        told = traces_of(source)
        content = digest_of(source)
    except ImageError as error:
        return Skipped(name, str(error).removeprefix(f"{source.name}: "))
    if content is None:
        return Skipped(name, "the file changed while it was read; run again")
    return _Seen(name, content, header, read_metadata(source), *told)


def _result(name: str, seen: Sequence[_Seen], greys: Any, skipped: Sequence[Skipped]) -> DataAudit:
    repeats, exact, near = _repeats(seen, greys) if seen else ((), 0, 0)
    pixels = [one.header.width * one.header.height for one in seen] or [0]
    kinds = Counter(kind for one in seen for kind in {trace.kind for trace in one.traces})
    contents = b"".join(sorted(one.content for one in seen))
    return DataAudit(
        name=name,
        images=len(seen),
        bytes=sum(one.header.bytes for one in seen),
        pixels=Quartiles(*np.quantile(pixels, [0, 0.5, 1]).tolist()),
        formats=_tally(one.header.file_format for one in seen),
        modes=_tally(one.header.mode for one in seen),
        cameras=_tally(one.metadata.camera or UNSAID for one in seen),
        years=dict(sorted(_tally(_year(one.metadata) for one in seen).items())),
        licences=_tally(one.licence or UNSAID for one in seen),
        exact=exact,
        near=near,
        repeats=repeats,
        traces={kind: kinds[kind] for kind in KINDS if kinds[kind]},
        traced=tuple(Traced(one.name, one.traces) for one in seen if one.traces),
        fingerprint=hashlib.sha256(contents).hexdigest(),
        skipped=tuple(skipped),
    )


def _repeats(seen: Sequence[_Seen], greys: Any) -> tuple[tuple[tuple[str, ...], ...], int, int]:
    """Group names by picture; count exact copies, and near ones beyond them."""
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(one.content, row), row) for row, one in enumerate(seen)]
    exact = len(seen) - len(first)
    shape = np.log([one.header.width / one.header.height for one in seen])
    pairs += [
        (one, other)
        for one, other in alike_pairs(greys, CORRELATION)
        if abs(shape[one] - shape[other]) <= _SHAPE
    ]
    group = join_pairs(np.array(pairs, dtype=np.int64), len(seen))
    members: dict[int, list[str]] = {}
    for one, number in zip(seen, group.tolist(), strict=True):
        members.setdefault(number, []).append(one.name)
    repeats = tuple(tuple(names) for names in members.values() if len(names) > 1)
    return repeats, exact, len(first) - len(members)


def _year(metadata: Metadata) -> str:
    return metadata.taken[:4] if metadata.taken else UNSAID


def _tally(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _counts(table: Mapping[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(table.items())[:8]]
    return ", ".join(shown) + (f" and {len(table) - 8} more" if len(table) > 8 else "")
