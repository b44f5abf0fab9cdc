"""Bring an index in step with its folders: what is new is embedded, what is known is recognised.

`compare` says which files to look at. Here they are read, and by their content told to be touched,
moved, copied, changed or new; only content that no one has embedded goes through the model. Every
batch is durable before the next, so a kill at any moment costs one batch at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from miniclip.embed import Skipped, Stream, embed_stream
from miniclip.index.compare import Comparison, compare, inside
from miniclip.index.parts import Parts
from miniclip.index.update import Update

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many


@dataclass(frozen=True)
class SyncResult:
    """What one synchronisation found and did; counts of images.

    added, changed, moved, deleted, unchanged: against the last time; a copy is added, a deleted one
    is not found any more. embedded: how many went through the model. missing: images that vanished,
    whose vectors are kept for their return. pruned: those forgotten for good. captions: how many
    were embedded. skipped: what could not be read.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    deleted: int = 0
    unchanged: int = 0
    embedded: int = 0
    missing: int = 0
    pruned: int = 0
    captions: int = 0
    skipped: tuple[Skipped, ...] = field(default=(), repr=False)
    seconds: float = 0.0

    @property
    def images(self) -> int:
        """How many images of the folders are in the index now."""
        return self.added + self.changed + self.moved + self.unchanged

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        skipped = [entry.to_dict() for entry in self.skipped]
        return {"images": self.images, **asdict(self), "skipped": skipped}

    def __str__(self) -> str:
        found = ", ".join(
            f"{getattr(self, name):,} {name}"
            for name in ("added", "changed", "moved", "deleted", "unchanged", "pruned")
            if getattr(self, name)
        )
        return (
            f"{self.images:,} images in the index ({found or 'nothing found'}); "
            f"{self.embedded:,} embedded in {self.seconds:.1f} s"
        )


def sync(
    parts: Parts,
    roots: Sequence[Path],
    *,
    patterns: Sequence[str] = (),
    prune: bool = False,
    progress: Progress | None = None,
    stream: Stream = embed_stream,
) -> SyncResult:
    """Bring the images below `roots` (absolute, none inside another) in step; others stay.

    patterns: what to leave out, as in .gitignore. prune: forget what vanished for good, here and in
    the attic, even a whole root. progress: called with what is done, how much of it, and the total.
    stream: what runs the encoder.

    DatasetError for a root that is missing, or empty where the index knows images, without `prune`.
    """
    start = time.perf_counter()
    found = compare(parts, roots, patterns=patterns, accept_empty=prune)
    update = Update(parts, found)
    update.restore()
    report = progress or (lambda _what, _done, _total: None)
    total = len(found.todo)
    sources = update.sources(lambda done: report("images", done, total))
    for outcome in stream(parts.encoder, sources):
        if isinstance(outcome, Skipped):
            update.skip(outcome)
        else:
            update.fill(outcome.sources, outcome.embeddings)
    folders = [parts.location.place(root).path for root in roots]
    deleted = _remove(parts, found, keep=not prune)
    pruned = parts.attic.prune(folders) + deleted if prune else 0
    parts.failures.save(
        parts.store, lambda place: place not in found.failing and inside(place.path, folders)
    )
    counts = update.counts
    return SyncResult(
        added=counts["added"],
        changed=counts["changed"],
        moved=counts["moved"],
        deleted=deleted,
        unchanged=found.unchanged,
        embedded=counts["embedded"],
        missing=len(parts.attic),
        pruned=pruned,
        skipped=tuple(found.skipped),
        seconds=time.perf_counter() - start,
    )


def _remove(parts: Parts, found: Comparison, *, keep: bool) -> int:
    """Take what vanished from the index, to the attic if so; return how many."""
    removed = 0
    for gone in found.ledger.missed():
        ids = [image.id for image in gone if image.embedded]
        if keep and ids:
            parts.attic.keep(parts.store.records(ids), parts.store.vectors(ids))
        parts.store.delete([image.id for image in gone])
        removed += len(gone)
    return removed
