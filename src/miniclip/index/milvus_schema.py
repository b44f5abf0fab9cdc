"""The collections in which an index lies in Milvus; names, fields and indexes, no calls.

    NAME_settings       key -> value: settings, models, the writer's journal
    NAME_places         key of a place -> id of the image that was last put there
    NAME_images         one row to an image, with its words for full text; the truth about it
    NAME_vectors_MODEL  slot -> vector, with a copy of the image's columns for filters
    NAME_texts_MODEL    key of a caption -> caption, and its vector once there is one

An image's row names its slot for each model. Slots that no image names do not count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from miniclip.errors import ConfigError
from miniclip.index.milvus_rows import LISTS, LONGEST_TEXT, MOST_TEXTS, NUMBERS, TEXTS
from miniclip.index.store import Model

Field = dict[str, Any]

MOST_MODELS = 64
WORDS = {"name": "bm25", "input_field_names": ["words"], "output_field_names": ["ranks"]}
# A collection must have a vector; those that need none have this one.
NO_VECTOR = [1.0, 0.0]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True)
class Names:
    """The names of the collections of one index."""

    index: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.index):
            raise ConfigError(
                f"{self.index!r} is no name for an index in Milvus; use up to 100 letters, digits "
                "and underscores, such as milvus:http://localhost:19530#photos"
            )

    @property
    def settings(self) -> str:
        """Return the name of the collection of settings."""
        return f"{self.index}_settings"

    @property
    def places(self) -> str:
        """Return the name of the collection of places."""
        return f"{self.index}_places"

    @property
    def images(self) -> str:
        """Return the name of the collection of images."""
        return f"{self.index}_images"

    def vectors(self, model: str) -> str:
        """Return the name of the collection of vectors by the model of this key."""
        return f"{self.index}_vectors_{model}"

    def texts(self, model: str) -> str:
        """Return the name of the collection of captions for the model of this key."""
        return f"{self.index}_texts_{model}"

    def owns(self, collection: str) -> bool:
        """Whether a collection belongs to this index."""
        fixed = (self.settings, self.places, self.images)
        of_models = (re.escape(self.vectors("")), re.escape(self.texts("")))
        return collection in fixed or bool(
            re.fullmatch(f"({'|'.join(of_models)})[0-9a-f]{{16}}", collection)
        )


def model_key(model: Model) -> str:
    """Return what stands for a model in names and rows, 16 characters."""
    return model.fingerprint[:16]


def values_fields() -> list[Field]:
    """Return the fields of a collection of keys and values."""
    return [
        {"field_name": "key", "datatype": "VARCHAR", "is_primary": True, "max_length": 512},
        _text("value"),
        {"field_name": "nothing", "datatype": "FLOAT_VECTOR", "dim": len(NO_VECTOR)},
    ]


def images_fields() -> list[Field]:
    """Return the fields of the collection of images."""
    words = _text("words") | {
        "enable_analyzer": True,
        "analyzer_params": {"tokenizer": "standard"},
    }
    return [
        {"field_name": "id", "datatype": "INT64", "is_primary": True},
        *_columns(),
        _list("models", "VARCHAR", MOST_MODELS) | {"max_length": 16},
        _list("slots", "INT64", MOST_MODELS),
        words,
        {"field_name": "ranks", "datatype": "SPARSE_FLOAT_VECTOR"},
    ]


def vectors_fields(dim: int) -> list[Field]:
    """Return the fields of a collection of vectors."""
    return [
        {"field_name": "slot", "datatype": "INT64", "is_primary": True},
        {"field_name": "image", "datatype": "INT64"},
        *_columns(),
        {"field_name": "vector", "datatype": "FLOAT_VECTOR", "dim": dim},
    ]


def texts_fields(dim: int) -> list[Field]:
    """Return the fields of a collection of captions; owner: the id of an image that has it."""
    return [
        {"field_name": "key", "datatype": "VARCHAR", "is_primary": True, "max_length": 64},
        _text("text"),
        {"field_name": "owner", "datatype": "INT64"},
        {"field_name": "embedded", "datatype": "BOOL"},
        {"field_name": "vector", "datatype": "FLOAT_VECTOR", "dim": dim},
    ]


def exact_index(field: str) -> Field:
    """Return the index that compares with every row."""
    return {"field_name": field, "index_type": "FLAT", "metric_type": "IP"}


def graph_index(field: str) -> Field:
    """Return the index for very many rows; at least 99 of the true first 100 are found."""
    parameters = {"M": 32, "efConstruction": 256}
    return {
        "field_name": field, "index_type": "HNSW", "metric_type": "IP", "params": parameters,
    }  # fmt: skip


def words_index() -> Field:
    """Return the index of full text search."""
    return {
        "field_name": "ranks", "index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25",
    }  # fmt: skip


def _columns() -> list[Field]:
    return [
        *map(_text, TEXTS),
        *({"field_name": name, "datatype": "DOUBLE"} for name in NUMBERS),
        {"field_name": "mtime_ns", "datatype": "INT64"},
        *(_list(name, "VARCHAR", MOST_TEXTS) | {"max_length": LONGEST_TEXT} for name in LISTS),
    ]


def _text(name: str) -> Field:
    return {"field_name": name, "datatype": "VARCHAR", "max_length": LONGEST_TEXT}


def _list(name: str, element: str, most: int) -> Field:
    return {
        "field_name": name, "datatype": "ARRAY", "element_type": element, "max_capacity": most,
    }  # fmt: skip
