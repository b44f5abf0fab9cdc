"""A bundle: the directory in which a trained model travels. Read, verify, write, find by name.

The contents of `bundle.json` are described in `manifest.py`; running the graphs is the business of
`onnx_encoder.py`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from miniclip.atomic import replacing_folder
from miniclip.errors import BundleError
from miniclip.home import data_dir
from miniclip.manifest import RESTORE, Manifest, read_manifest, write_manifest

MANIFEST_FILE = "bundle.json"
IMAGE_FILE, TEXT_FILE, TOKENIZER_FILE = "image.onnx", "text.onnx", "tokenizer.json"
CARD_FILE, PARITY_FILE = "model_card.md", "parity.npz"
TEXT_FILES = (TEXT_FILE, TOKENIZER_FILE)

BUNDLE_VARIABLE = "MINICLIP_BUNDLE"
DEFAULT_NAME = "default"
SHIPPED = Path(__file__).parent / "models"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A model on disk.

    directory: where it lies; manifest: what `bundle.json` says; files: name -> sha256 of the rest.
    """

    directory: Path
    manifest: Manifest
    files: Mapping[str, str]

    @classmethod
    def open(cls, directory: Path | str, *, verify: bool = True) -> Self:
        """Read a bundle; `verify` compares every file with its sha256 (once per process and file).

        BundleError when anything is missing, unknown, of the wrong type, or altered.
        """
        directory = Path(os.path.expanduser(directory)).absolute()
        if not is_bundle(directory):
            raise BundleError(
                f"{directory} holds no {MANIFEST_FILE}; name the directory of a miniclip bundle"
            )
        path = directory / MANIFEST_FILE
        try:
            manifest, files = read_manifest(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError, BundleError) as error:
            raise BundleError(f"{path}: {error}") from error
        _check_listing(directory, manifest, files)
        if verify:
            _verify(directory, files)
        return cls(directory, manifest, files)

    @classmethod
    def resolve(cls, name_or_dir: str | Path | None = None, *, verify: bool = True) -> Self:
        """Find a bundle and open it.

        None means the environment variable MINICLIP_BUNDLE, else the shipped default. A plain name
        is looked up among the shipped bundles, then in the user's data directory, then as a
        directory, then as what an installed bundle calls itself; anything else is a directory.
        BundleError when nothing is found.
        """
        wanted = name_or_dir or os.environ.get(BUNDLE_VARIABLE) or DEFAULT_NAME
        places = _places(wanted)
        for place in places:
            if is_bundle(place):
                return cls.open(place, verify=verify)
        installed = installed_bundles()
        for bundle in installed:
            if bundle.name == wanted:
                return cls.open(bundle.directory, verify=verify)
        known = ", ".join(bundle.name for bundle in installed) or "none"
        looked = ", ".join(map(str, places))
        raise BundleError(
            f"no bundle {str(wanted)!r} (looked in {looked}); "
            f"name one of the installed ones ({known}) or a bundle directory"
        )

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """64 hex digits over all that decides the vectors: graphs, vocabulary and specs."""
        decisive = {
            "files": {name: self.files[name] for name in _needed_files(self.manifest)},
            "image": self.manifest.image.to_dict(),
            "text": self.manifest.text.to_dict() if self.manifest.text else None,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of all listed files."""
        return sum((self.directory / name).stat().st_size for name in self.files)

    def path(self, name: str) -> Path:
        """Where one of the bundle's files lies."""
        return self.directory / name


def is_bundle(directory: Path) -> bool:
    """Whether a directory claims to be a bundle; `Bundle.open` finds out whether it is one."""
    return os.path.isfile(directory / MANIFEST_FILE)


def installed_bundles() -> list[Bundle]:
    """All bundles that a plain name finds, shipped ones first, by name; files are not verified.

    A broken one is left out with a logged warning.
    """
    found: dict[str, Bundle] = {}
    for shelf in _shelves():
        for directory in sorted(shelf.iterdir()) if os.path.isdir(shelf) else ():
            if directory.name in found or directory.name[0] == "." or not is_bundle(directory):
                continue
            try:
                found[directory.name] = Bundle.open(directory, verify=False)
            except BundleError as error:
                _log.warning("left out a broken bundle: %s", error)
    return list(found.values())


def write_bundle(
    directory: Path | str, *, manifest: Manifest, files: Mapping[str, Path | bytes]
) -> Bundle:
    """Write a bundle whole or not at all, and open it.

    files: `image.onnx`; `text.onnx` and `tokenizer.json`, if the manifest has a text tower; perhaps
    `model_card.md` and `parity.npz`; each as bytes or as a file to copy. An existing bundle at
    `directory` is replaced; a kill at the worst moment leaves the old one beside it under a hidden
    name. BundleError when another thing stands there, or when a file is missing, unknown or
    unwritable.
    """
    directory = Path(os.path.expanduser(directory)).absolute()
    _refuse_names(directory, manifest, set(files))
    if os.path.exists(directory) and not is_bundle(directory):
        raise BundleError(f"{directory} exists and is no bundle; choose another directory")
    try:
        with replacing_folder(directory) as fresh:
            for name, content in files.items():
                _store(fresh / name, content)
            hashes = {name: _sha256(fresh / name) for name in sorted(files)}
            _store(fresh / MANIFEST_FILE, write_manifest(manifest, hashes).encode())
            Bundle.open(fresh, verify=False)
    except OSError as error:
        raise BundleError(
            f"cannot write the bundle {directory} ({error}); check the disk and your permissions"
        ) from error
    return Bundle.open(directory)


def _shelves() -> tuple[Path, Path]:
    return SHIPPED, data_dir(create=False) / "bundles"


def _places(wanted: str | Path) -> list[Path]:
    directory = Path(os.path.expanduser(wanted)).absolute()
    plain = isinstance(wanted, str) and Path(wanted).name == wanted
    return [shelf / wanted for shelf in _shelves() if plain] + [directory]


def _check_listing(directory: Path, manifest: Manifest, files: Mapping[str, str]) -> None:
    """Refuse unlisted files too: a graph could pull weights from them past every hash."""
    _refuse_names(directory, manifest, set(files))
    present = {entry.name for entry in directory.iterdir() if not entry.name.startswith(".")}
    for name in sorted(set(files) - present):
        raise BundleError(f"{directory / name} is missing; {RESTORE}")
    for name in sorted(present - set(files) - {MANIFEST_FILE}):
        raise BundleError(
            f"{directory / name} is not listed in {MANIFEST_FILE}; move it out of the bundle"
        )


def _needed_files(manifest: Manifest) -> tuple[str, ...]:
    """Name the files that decide the vectors."""
    return (IMAGE_FILE, *TEXT_FILES) if manifest.text else (IMAGE_FILE,)


def _refuse_names(directory: Path, manifest: Manifest, names: set[str]) -> None:
    needed = set(_needed_files(manifest))
    for name in sorted(needed - names):
        raise BundleError(f"{directory}: files lists no {name}; {RESTORE}")
    if not manifest.text and (tower := sorted(names & set(TEXT_FILES))):
        raise BundleError(
            f"{directory}: files lists {tower[0]!r}, but text is null, as of a model of images "
            f"alone; {RESTORE}"
        )
    for name in sorted(names - needed - {CARD_FILE, PARITY_FILE}):
        raise BundleError(f"{directory}: files lists {name!r}, which no bundle has; {RESTORE}")


def _verify(directory: Path, files: Mapping[str, str]) -> None:
    paths = [directory / name for name in files]
    try:
        with ThreadPoolExecutor(len(paths)) as pool:
            actual = dict(zip(files, pool.map(_known_sha256, paths), strict=True))
    except OSError as error:
        raise BundleError(f"cannot read {error.filename} ({error.strerror}); {RESTORE}") from error
    for name, digest in files.items():
        if actual[name] != digest:
            raise BundleError(
                f"{directory / name} was altered: its sha256 is {actual[name][:12]}..., "
                f"{MANIFEST_FILE} says {digest[:12]}...; {RESTORE}"
            )


def _known_sha256(path: Path) -> str:
    status = path.stat()
    return _remembered_sha256(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=256)
def _remembered_sha256(path: Path, *_identity: int) -> str:
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _store(path: Path, content: Path | bytes) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)
