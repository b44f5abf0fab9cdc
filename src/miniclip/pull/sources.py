"""Where a model comes from, a directory or the hub: its files, its commit, and no damage.

What the files mean is the business of the readers.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from miniclip.errors import BundleError
from miniclip.pull.layouts import Layout, Precision, layout_of, needed_files

_FOLDERS = ("", "onnx", "visual", "textual")
_DOWNLOAD_NOTES = Path(".cache", "huggingface", "download")  # what `hf download --local-dir` leaves
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Source:
    """A model's files on this machine.

    origin: OWNER/NAME on the hub, or the directory's name; revision: the commit, None where nobody
    knows; files: the names of all that are there, relative to `directory`.
    """

    directory: Path
    origin: str
    revision: str | None
    files: frozenset[str]
    layout: Layout


def find_source(
    source: str, *, precision: Precision, revision: str | None = None, progress: bool = False
) -> Source:
    """Find a directory, or fetch from the hub what is needed of a repository.

    revision: a branch, tag or commit of a repository. BundleError when there is neither, when it is
    no model of a known kind, or when a weight file is not what the hub sent.
    """
    directory = Path(os.path.expanduser(source))
    if os.path.isdir(directory):
        found = _local(directory.absolute(), revision)
    else:
        found = _fetched(source, precision, revision, progress)
    _check_hashes(found)
    return found


def _local(directory: Path, revision: str | None) -> Source:
    files = frozenset(_listed(directory))
    notes = (_note(directory, name) for name in sorted(files))
    commit = next((note[0] for note in notes if note), None)
    if revision is not None and revision != commit:
        raise BundleError(
            f"{directory} is a directory{f' of revision {commit}' if commit else ''}; "
            "leave --revision away, or give the model's name on the hub"
        )
    return Source(directory, directory.name, commit, files, layout_of(files, str(directory)))


def _fetched(source: str, precision: Precision, revision: str | None, progress: bool) -> Source:
    from miniclip.pull.hub import download, is_repository, look_up  # noqa: PLC0415 -- optional

    if not is_repository(source):
        raise BundleError(
            f"there is no directory {source}, nor is it a name on the hub; give a directory or "
            "OWNER/NAME, such as openai/clip-vit-base-patch32"
        )
    repository = look_up(source, revision)
    layout = layout_of(repository.files, source)
    wanted = needed_files(repository.files, layout, precision)
    directory = download(repository, wanted, progress=progress)
    return Source(directory, source, repository.commit, frozenset(_listed(directory)), layout)


def _listed(directory: Path) -> Iterator[str]:
    """Name the files where models have them; a directory may hold much else."""
    for folder in _FOLDERS:
        place = directory / folder
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.is_file():
                yield path.relative_to(directory).as_posix()


def _check_hashes(source: Source) -> None:
    """Compare files with the sha256 that the hub told of them, where that is still known."""
    for name in sorted(source.files):
        path = source.directory / name
        digest = _told_sha256(source.directory, name)
        if digest is None:
            continue
        with path.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != digest:
            raise BundleError(
                f"{path} is damaged: its sha256 is {actual[:12]}..., but the hub says "
                f"{digest[:12]}...; remove it and fetch it again"
            )


def _told_sha256(directory: Path, name: str) -> str | None:
    """Find a hash: the cache of the hub names files by it, a download to a folder notes it."""
    blob = Path(os.path.realpath(directory / name))
    if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
        return blob.name
    note = _note(directory, name)
    return note[1] if note and _SHA256.fullmatch(note[1]) else None


def _note(directory: Path, name: str) -> tuple[str, str] | None:
    """Read commit and hash that `hf download` noted; None where it noted nothing."""
    try:
        lines = (directory / _DOWNLOAD_NOTES / f"{name}.metadata").read_text().splitlines()
        return lines[0].strip(), lines[1].strip()
    except (OSError, UnicodeError, IndexError):
        return None
