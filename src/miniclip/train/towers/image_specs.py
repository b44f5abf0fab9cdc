"""The pixels that a tower expects: `pull.image_specs`, for a source as in `hub`."""

from __future__ import annotations

from miniclip.errors import BundleError, TrainingError
from miniclip.preprocess import ImageSpec
from miniclip.pull.documents import Document
from miniclip.pull.image_specs import FILE, NESTED_FILE, choose_preprocessor, image_spec_from
from miniclip.train.towers.hub import read_json


def read_image_spec(source: str) -> ImageSpec:
    """Read how its pixels are made. TrainingError names what is missing or foreign."""
    try:
        plain, outer = (_document(source, name) for name in (FILE, NESTED_FILE))
        return image_spec_from(choose_preprocessor(plain, outer, source))
    except BundleError as error:
        raise TrainingError(str(error)) from error


def _document(source: str, name: str) -> Document | None:
    values = read_json(source, name)
    return None if values is None else Document(f"the {name} of {source}", values)
