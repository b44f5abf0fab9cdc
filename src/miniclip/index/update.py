"""One pass over the files that have to be read: recognise each by its content, embed the rest.

It works batch by batch: a batch is read, its known images are stored, and the unknown ones go on to
the model. Equal content is embedded once. Removing what vanished is the business of `sync`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.cpus import usable_cpus
from miniclip.embed import Skipped
from miniclip.images import ImageSource
from miniclip.index.compare import Comparison
from miniclip.index.contents import SETTLED_NS, digest_of
from miniclip.index.metadata import Metadata, read_metadata
from miniclip.index.parts import Parts
from miniclip.index.sources import Opened, Seen, State, open_images
from miniclip.index.store import Known, NewImage, Place

AT_ONCE = 64  # images that are read, looked up and stored together
_MOST_DISPLACED = (
    10_000  # vectors of overwritten content that are held, should it turn up elsewhere
)
_CHANGED = "changed while it was read; the next run takes it up"


@dataclass(frozen=True)
class _Look:
    """A file that was read: what to store, but for its vector. known: what the index had there."""

    seen: Seen
    source: ImageSource
    image: NewImage
    known: Known | None

    @property
    def is_change(self) -> bool:
        return self.known is not None and self.known.content != self.image.content


class Update:
    """The pass. `sources` reads and recognises; `fill` and `skip` take what the model says."""

    def __init__(self, parts: Parts, found: Comparison) -> None:
        self.counts: Counter[str] = Counter()
        self._parts = parts
        self._store = parts.store
        self._found = found
        self._ledger = found.ledger
        self._waiting: dict[str, list[_Look]] = {}  # name of a source on its way -> its images
        self._on_its_way: dict[bytes, str] = {}  # content -> name of the source
        self._displaced: dict[bytes, FloatArray] = {}

    def restore(self) -> None:
        """Bring back from the attic what returned to its place unchanged, without reading it."""
        returned = self._returned()
        while batch := dict(islice(returned, AT_ONCE)):
            images, vectors = self._parts.attic.look_up([kept.id for kept in batch.values()])
            self._put(images, vectors)
            self._parts.attic.drop([kept.place for kept in batch.values()])
            self._found.todo.remove(batch)
            self.counts["added"] += len(batch)

    def sources(self, progress: Callable[[int], None]) -> Iterator[ImageSource]:
        """Read the files and yield one source for every content that has to be embedded.

        progress: called with the number of files done, here and by `fill` and `skip`.
        """
        self._progress = progress
        opened = open_images(self._found.todo, self._skip_archive)
        with ThreadPoolExecutor(2 * usable_cpus(), thread_name_prefix="miniclip-read") as pool:
            while batch := list(islice(opened, AT_ONCE)):
                known = [self._known(one.seen) for one in batch]
                looks = pool.map(self._look, batch, known)
                yield from self._recognise([look for look in looks if look])

    def fill(self, sources: Sequence[ImageSource], embeddings: FloatArray) -> None:
        """Store the vectors (B, D) of a batch of sources, for all images of these contents.

        Not those of files that changed between reading and decoding: their vector is not known.
        """
        images: list[_Look] = []
        rows: list[int] = []
        for row, source in enumerate(sources):
            looks = self._arrived(source.name)
            if _is_settled(looks[0].seen):
                images += looks
                rows += [row] * len(looks)
                self.counts["embedded"] += 1
            else:
                self._found.skipped += [Skipped(look.seen.name, _CHANGED) for look in looks]
        self._take(images, [embeddings[row] for row in rows])

    def skip(self, skipped: Skipped) -> None:
        """Note why a source has no vector; what the index had at such a place is gone."""
        for look in self._arrived(skipped.name):
            settled = _is_settled(look.seen)
            place = look.image.place
            if settled:
                self._parts.failures.note(place, look.seen.state, skipped.reason)
                self._found.failing.add(place)
            if look.known:
                self._ledger.lose(place)
            reason = skipped.reason if settled else _CHANGED
            self._found.skipped.append(Skipped(look.seen.name, reason))

    def _returned(self) -> Iterator[tuple[int, Known]]:
        """Yield what of the attic is wanted back: the number in the list, and the image."""
        for number, seen in self._found.todo.numbered() if len(self._parts.attic) else ():
            kept = self._parts.attic.at(self._place(seen))
            if kept and (kept.size, kept.mtime_ns) == seen.state[:2] and not self._known(seen):
                yield number, kept

    def _look(self, opened: Opened, known: Known | None) -> _Look | None:
        """Read one file; None when it is gone, or an archive that changed since it was listed."""
        seen, source = opened.seen, opened.source
        state = State.of(seen.path)
        if state is None or (seen.member and state != seen.state):
            return None
        seen = seen._replace(state=state)
        # A file this young may change again within its time stamp: read it again the next time.
        young = time.time_ns() - state.mtime_ns <= SETTLED_NS
        place = self._place(seen)
        content = digest_of(source)
        image = NewImage(
            path=place.path,
            member=place.member,
            content=content or b"",
            size=state.size,
            mtime_ns=state.mtime_ns - young,
            captions=opened.captions,
            **(asdict(self._metadata(source)) if content else {}),
        )
        return _Look(seen, source, image, known)

    def _place(self, seen: Seen) -> Place:
        return self._parts.location.place(seen.path, seen.member)

    def _known(self, seen: Seen) -> Known | None:
        return self._ledger.at(self._place(seen))

    def _metadata(self, source: ImageSource) -> Metadata:
        return read_metadata(source, places=self._parts.places)

    def _recognise(self, looks: list[_Look]) -> Iterator[ImageSource]:
        """Store what can be recognised; yield the sources of what cannot."""
        self._remember_displaced(looks)
        same = {known.id: look for look in looks if (known := self._same_image(look))}
        if same:
            before = {record.id: record for record in self._store.records(list(same))}
            self._store.update({id: _described(same[id], before[id]) for id in same})
        taken = {look.seen for look in same.values()}
        rest = [look for look in looks if look.seen not in taken]
        vectors = self._vectors_of({look.image.content for look in rest if look.image.content})
        at_hand = [look for look in rest if look.image.content in vectors]
        self._take(at_hand, [vectors[look.image.content] for look in at_hand])
        self._count(len(same) + len(at_hand))
        for look in rest:
            if look.image.content not in vectors and self._is_first(look):
                yield look.source

    def _same_image(self, look: _Look) -> Known | None:
        """Return the image of the index that this file is: touched, or moved from elsewhere."""
        if look.known:
            if not look.known.embedded or look.is_change:
                return None
            self._found.unchanged += 1
            return look.known
        twins = self._ledger.twins(look.image.content)
        if not twins:
            return None
        name = look.seen.path.name
        twin = next((twin for twin in twins if _file_name(twin.place) == name), twins[0])
        self._ledger.find(twin.place)
        self.counts["moved"] += 1
        return twin

    def _remember_displaced(self, looks: Sequence[_Look]) -> None:
        """Hold vectors of content that is overwritten: files may have swapped their names."""
        old = [
            look.known for look in looks if look.known and look.known.embedded and look.is_change
        ]
        if old and len(self._displaced) < _MOST_DISPLACED:
            vectors = self._store.vectors([known.id for known in old])
            self._displaced.update(zip([known.content for known in old], vectors, strict=True))

    def _vectors_of(self, contents: set[bytes]) -> dict[bytes, FloatArray]:
        """Find vectors of these contents wherever there are any."""
        found = {one: self._displaced[one] for one in contents if one in self._displaced}
        ids = {one: known.id for one in contents if (known := self._ledger.of(one))}
        if ids:
            found |= dict(zip(ids, self._store.vectors(list(ids.values())), strict=True))
        kept = [image for one in contents - found.keys() if (image := self._parts.attic.of(one))]
        if kept:
            _, vectors = self._parts.attic.look_up([image.id for image in kept])
            found |= dict(zip([image.content for image in kept], vectors, strict=True))
        if self._parts.cache and (missing := contents - found.keys()):
            found |= self._parts.cache.load(self._parts.encoder.fingerprint, missing)
        return found

    def _is_first(self, look: _Look) -> bool:
        """Put an image on its way to the model; True when no other of its content is."""
        # What cannot be read has no content and is left to the decoder, which says why.
        leader = look.image.content and self._on_its_way.setdefault(
            look.image.content, look.source.name
        )
        looks = self._waiting.setdefault(leader or look.source.name, [])
        looks.append(look)
        return len(looks) == 1

    def _arrived(self, name: str) -> list[_Look]:
        looks = self._waiting.pop(name)
        self._on_its_way.pop(looks[0].image.content, None)
        self._count(len(looks))
        return looks

    def _take(self, looks: Sequence[_Look], vectors: Sequence[FloatArray]) -> None:
        """Store images with their vectors, one (D,) for each."""
        if not looks:
            return
        ids = [look.known.id for look in looks if look.known]
        before = {record.place: record for record in self._store.records(ids)}
        attic = self._parts.attic
        returned = {
            look.image.place: image
            for look in looks
            if not look.known and (image := attic.of(look.image.content))
        }
        if returned:
            records, _ = attic.look_up([image.id for image in returned.values()])
            before |= zip(returned, records, strict=True)
        images = [_described(look, before.get(look.image.place)) for look in looks]
        self._put(images, np.stack(vectors))
        attic.drop({image.place for image in returned.values()})
        changed = sum(look.is_change for look in looks)
        self.counts["changed"] += changed
        self.counts["added"] += len(looks) - changed

    def _put(self, images: Sequence[NewImage], vectors: FloatArray) -> None:
        self._ledger.add(map(Known.of, self._store.upsert(images, vectors), images))

    def _skip_archive(self, path: Path, why: str) -> None:
        self._found.skipped.append(Skipped(str(path), why))

    def _count(self, files: int) -> None:
        self.counts["done"] += files
        self._progress(self.counts["done"])


def _described(look: _Look, before: NewImage | None) -> NewImage:
    """Keep what people said of an image, unless its archive says it anew."""
    if before is None:
        return look.image
    return replace(look.image, captions=look.image.captions or before.captions)


def _is_settled(seen: Seen) -> bool:
    return State.of(seen.path) == seen.state


def _file_name(place: Place) -> str:
    return os.path.basename(place.path)  # noqa: PTH119 - any bytes
