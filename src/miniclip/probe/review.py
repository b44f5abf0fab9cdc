"""A folder of the images that a person should look at, sorted by decision and label.

DIR/review/LABEL/name.jpg       not sure enough; LABEL is the likeliest
DIR/out-of-scope/name.jpg       not the kind of image that was learnt

Nothing lands elsewhere, whatever the labels are: as names of folders they lose what no name may
have.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from miniclip.errors import ConfigError, StoreError
from miniclip.probe.predict import Prediction
from miniclip.safe_text import cut, file_name

_LONGEST_STEM = 220  # bytes: a number and an ending fit behind it


class ReviewFolder:
    """A new or empty folder that fills with copies of images, or with links to them."""

    def __init__(self, directory: Path, *, link: bool = False) -> None:
        """Make the folder; ConfigError when there is something in it, StoreError when it fails."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            filled = any(directory.iterdir())
        except OSError as error:
            raise _cannot_write(directory, error) from error
        if filled:
            raise ConfigError(
                f"the review folder {directory} is not empty; empty it, or choose another"
            )
        self._directory = directory
        self._link = link
        self._folder_of: dict[str, str] = {}  # label -> name of its folder

    def take(self, prediction: Prediction) -> None:
        """Put the image there unless its decision is "auto"; a name that is taken gets a number."""
        if prediction.decision == "auto":
            return
        folder = self._directory / prediction.decision
        if prediction.decision == "review":
            folder /= self._name(prediction.label)
        source = Path(prediction.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            target = _free(folder, source.name)
            if self._link:
                target.symlink_to(source.absolute())
            else:
                shutil.copyfile(source, target)
        except OSError as error:
            raise _cannot_write(folder / source.name, error) from error

    def _name(self, label: str) -> str:
        if label not in self._folder_of:
            taken = {name.lower() for name in self._folder_of.values()}
            self._folder_of[label] = file_name(label, taken)
        return self._folder_of[label]


def _free(folder: Path, name: str) -> Path:
    target, number = folder / name, 1
    stem = cut(Path(name).stem, _LONGEST_STEM)
    while os.path.lexists(target):
        number += 1
        target = folder / f"{stem}-{number}{Path(name).suffix}"
    return target


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path} ({error.strerror or error}); check the folder, its permissions and "
        "the disk, or choose another place"
    )
