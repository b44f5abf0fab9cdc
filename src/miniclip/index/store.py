"""What an index keeps, as a Protocol: images, their captions, and one vector per image and model.

`SqliteStore` implements it on one machine; anything else that does must pass the same tests. The
types here are plain values. It finds no files, runs no model and knows no database.

A store never mixes models: `use_model` chooses whose vectors all later calls mean. What one call
writes becomes visible and durable together, or not at all. Readers may search from any number of
processes and threads while one writer writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, Self, get_args

from miniclip.arrays import FloatArray, IntArray
from miniclip.errors import StoreError

# Errors

REBUILD = "run miniclip index --rebuild on its folder: everything is made again from the images"


class DamagedStoreError(StoreError):
    """Files that are truncated, altered or no index at all; the message names the cure."""


class LockedStoreError(StoreError):
    """Another process writes; the message says which."""


class UnknownModelError(StoreError):
    """A search with a model that this index holds no vectors of; the message names those it has."""


# Values


@dataclass(frozen=True)
class Model:
    """Whose vectors: the fingerprint decides, the name is for people; vectors are (dim,)."""

    fingerprint: str
    name: str
    dim: int


class Place(NamedTuple):
    """Where an image lies, unique within a store.

    path: as the caller means it (relative to a root or absolute), any bytes by surrogateescape
    (`os.fsdecode`); member: its name inside an archive or table at that path, "" for a plain file.
    """

    path: str
    member: str = ""


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """All there is to know of an image but its vector and its number.

    content: sha256 of its bytes (32 bytes); size: bytes; width, height: pixels, 0 if unknown;
    taken: local time as ISO 8601 without zone ("2024-05-01T12:30:00"); latitude and longitude:
    degrees. captions and tags keep their order.
    """

    path: str
    member: str = ""
    content: bytes
    size: int
    mtime_ns: int
    width: int = 0
    height: int = 0
    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Return what identifies it."""
        return Place(self.path, self.member)


@dataclass(frozen=True, kw_only=True)
class ImageRecord(NewImage):
    """An image of the store. id: its number, from 1; it stays when the file moves or changes."""

    id: int


class Known(NamedTuple):
    """What a comparison with the disk needs of one image.

    embedded: whether there is a vector of the model in use.
    """

    id: int
    place: Place
    size: int
    mtime_ns: int
    content: bytes
    embedded: bool

    @classmethod
    def of(cls, id: int, image: NewImage) -> Self:
        """Return what is known of an image that was just stored with its vector."""
        return cls(id, image.place, image.size, image.mtime_ns, image.content, True)


class Scored(NamedTuple):
    """An image and the cosine, -1 to 1, between its vector and the query's."""

    id: int
    cosine: float


class ScoredText(NamedTuple):
    """A caption and the cosine, -1 to 1, between its vector and the query's."""

    text: str
    cosine: float


# Filters: a tree, so that no store ever sees text that a user wrote as anything but a value

Column = Literal[
    "path", "member", "size", "mtime", "width", "height",
    "taken", "camera", "latitude", "longitude", "caption", "tag",
]  # fmt: skip
COLUMNS: tuple[Column, ...] = get_args(Column)
TEXT_COLUMNS: frozenset[Column] = frozenset(("path", "member", "taken", "camera", "caption", "tag"))
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "like"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)


@dataclass(frozen=True)
class Compare:
    """A column against a value; false when the image lacks the column, for every operator.

    "mtime" is in seconds since 1970; "caption" and "tag" hold if they do for any one of the
    image's. "like": % stands for any run of characters, _ for one, the case of ASCII is ignored.
    Texts compare by code point, so a year is before all its days: taken >= "2024".
    """

    column: Column
    operator: Operator
    value: str | int | float


@dataclass(frozen=True)
class Exists:
    """The image has the column: a date, a camera, at least one caption, a size above 0."""

    column: Column


@dataclass(frozen=True)
class Below:
    """The image lies in this folder or deeper, or is this file (an archive: all its members)."""

    folder: str


@dataclass(frozen=True)
class Both:
    """All parts hold; no parts always do."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Either:
    """At least one part holds; no parts never do."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Without:
    """The part does not hold."""

    part: Filter


Filter = Compare | Exists | Below | Both | Either | Without


# The Protocol


class Store(Protocol):
    """An open index. Every method may raise StoreError; those that write need a store to write."""

    # Models

    def models(self) -> dict[Model, int]:
        """Return every model and the number of its image vectors."""
        ...

    def use_model(self, model: Model) -> None:
        """Choose whose vectors all later calls mean.

        A store to write adds a model that is new, beside the others. A store to read raises
        UnknownModelError for one, naming those it has. StoreError when the fingerprint is known
        with another dim.
        """
        ...

    # Settings: what belongs to the index as a whole (its roots, its ignore patterns)

    def settings(self) -> dict[str, str]:
        """Return what `remember` kept."""
        ...

    def remember(self, settings: Mapping[str, str]) -> None:
        """Keep values by name, replacing older ones of the same name."""
        ...

    # Writing: each call one durable batch

    def upsert(self, images: Sequence[NewImage], vectors: FloatArray) -> list[int]:
        """Add images, or replace those at the same places; return their ids.

        vectors: (n, D) float32 unit rows of the model in use, kept as float16. A replaced image
        keeps its id; if its content is another, it loses the vectors of all other models.
        StoreError when two of the images share a place.
        """
        ...

    def update(self, images: Mapping[int, NewImage]) -> None:
        """Say anew all but the vectors of images by id: moved, touched, or captioned otherwise.

        Places may be swapped within one call; an image that lay at such a place and is not named
        in the call is deleted. StoreError for an unknown id or another content.
        """
        ...

    def delete(self, ids: Collection[int]) -> None:
        """Forget images with their captions and all their vectors; unknown ids are no error."""
        ...

    def optimise(self) -> None:
        """Do what makes later searches fast (and the files small); may take minutes."""
        ...

    # Reading

    def known(self) -> Iterator[Known]:
        """Iterate over all images, ordered by the bytes of (path, member).

        One may write meanwhile: images added or moved since the start may be seen or not.
        """
        ...

    def ids(self, where: Filter | None = None) -> IntArray:
        """Return the ids (N,) int64, ascending, of the images for which the filter holds."""
        ...

    def count(self, where: Filter | None = None) -> int:
        """Count them."""
        ...

    def records(self, ids: Sequence[int]) -> list[ImageRecord]:
        """Return the images in the order asked for; an id deleted meanwhile is left out."""
        ...

    def vectors(self, ids: Sequence[int]) -> FloatArray:
        """Return (n, D) float32 unit rows of the model in use, in the order asked for.

        StoreError for an id without one.
        """
        ...

    def embedded(self, ids: Sequence[int]) -> tuple[list[ImageRecord], FloatArray]:
        """Return images and their vectors (n, D) float32 unit rows, in the order asked for.

        Both are of one moment; images without a vector of the model in use, and those deleted
        meanwhile, are left out.
        """
        ...

    # Searching among the images that have a vector of the model in use

    def nearest(
        self,
        query: FloatArray,
        *,
        top: int,
        where: Filter | None = None,
        exclude: Collection[int] = (),
    ) -> list[Scored]:
        """Return the `top` images closest to the query, best first; equal ones by id.

        query: (D,) float32, unit length. exclude: ids to pass over. After `optimise` a few of the
        best may be missed in a large store (recall@10 of at least 0.99); before, none.
        """
        ...

    def full_text(self, words: str, *, top: int, where: Filter | None = None) -> list[int]:
        """Return ids of images whose captions, tags or place hold any of the words, best first.

        words: plain text, never a query language. Ranked by BM25; equal ones by id.
        """
        ...

    # Captions as answers

    def texts_to_embed(self, limit: int) -> list[str]:
        """Return up to `limit` distinct captions that have no vector of the model in use."""
        ...

    def add_text_vectors(self, texts: Sequence[str], vectors: FloatArray) -> None:
        """Keep vectors (n, D) float32 unit rows of captions, one durable batch.

        Captions that no image has (any more) are passed over.
        """
        ...

    def embedded_texts(self) -> Iterator[tuple[list[str], FloatArray]]:
        """Iterate over captions that have vectors, page by page, with these (n, D) unit rows.

        One may write meanwhile: captions added since the start may be seen or not.
        """
        ...

    def nearest_texts(self, query: FloatArray, *, top: int) -> list[ScoredText]:
        """Return the `top` distinct captions closest to the query (D,) float32, unit length."""
        ...

    def close(self) -> None:
        """Let go of everything; the object cannot be used again."""
        ...
