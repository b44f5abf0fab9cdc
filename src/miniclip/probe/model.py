"""The model directory of a fitted classifier: write it whole, open it, find the bundle it needs.

    model.json      classes, bundle, head, rules, gate, views, versions, data fingerprint
    head.npz        the arrays of the head            gate.npz   those of the gate
    reference.npz   features (float16) and perceptual hashes of the training images, by which
                    nearest ones and repeats are found
    images.json     every image: name, label, part, fold, whether it was learnt from
    metrics.json    what `fit` found out              model_card.md, report.html   for people
    bundle/         a copy of the encoder, when it is this model's own

Nothing in it can run code when it is loaded, nothing in it knows the time or where the images lay:
equal data, settings and seed give equal bytes. It fits nothing and decides nothing.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray, IntArray
from miniclip.atomic import replacing_folder
from miniclip.bundle import Bundle
from miniclip.errors import BundleError, ConfigError, MiniClipError, StoreError
from miniclip.probe.duplicates import Pictures
from miniclip.probe.gate import Gate, load_gate
from miniclip.probe.heads.head import Head, load_head
from miniclip.probe.rules import Rules
from miniclip.views import View, named_views

MODEL_FILE, HEAD_FILE, GATE_FILE = "model.json", "head.npz", "gate.npz"
REFERENCE_FILE, IMAGES_FILE, METRICS_FILE = "reference.npz", "images.json", "metrics.json"
CARD_FILE, REPORT_FILE, BUNDLE_FOLDER = "model_card.md", "report.html", "bundle"
FORMAT = 1
_CURE = "fit the model again, or get the directory from where it came"


@dataclass(frozen=True)
class Reference:
    """The images that the head has learnt from, and what held-out ones looked like.

    contents: sha256 of the files. labels: (N,) int64. features: (N, F) float16, of the plain view.
    confidence, distance: (H,) float32 of held-out images, calibrated and to the gate, against which
    drift is measured. hashes: (N,) uint64, by which near-repeats are found; None in models of
    before they were kept.
    """

    names: tuple[str, ...]
    contents: tuple[str, ...]
    labels: IntArray
    features: NDArray[np.float16] = field(repr=False)
    confidence: FloatArray = field(repr=False)
    distance: FloatArray = field(repr=False)
    hashes: NDArray[np.uint64] | None = field(default=None, repr=False)

    @property
    def pictures(self) -> Pictures:
        """What repeats of these images are found by."""
        return Pictures(self.contents, self.features, self.hashes)


@dataclass(frozen=True)
class ClassifierModel:
    """A fitted classifier.

    classes: C labels, in the order of the head's outputs. rules: from scores to decisions.
    bundle_name, bundle_fingerprint: the encoder whose features the head understands.
    views: as `views.named_views` reads them. about: versions, data fingerprint and settings.
    """

    classes: tuple[str, ...]
    head: Head
    rules: Rules
    gate: Gate
    reference: Reference
    bundle_name: str
    bundle_fingerprint: str
    views_text: str = "plain"
    about: Mapping[str, Any] = field(default_factory=dict)
    directory: Path | None = field(default=None, compare=False)

    @property
    def views(self) -> tuple[View, ...]:
        """The views whose scores are averaged."""
        return named_views(self.views_text)

    @classmethod
    def open(cls, directory: Path | str) -> Self:
        """Read a model directory; BundleError when it is none, or damaged, or of a newer format."""
        directory = Path(os.path.expanduser(directory)).absolute()
        if not is_model(directory):
            raise BundleError(
                f"{directory} holds no {MODEL_FILE}; name a directory that `miniclip fit` wrote"
            )
        try:
            facts = json.loads((directory / MODEL_FILE).read_text(encoding="utf-8"))
            if facts["format"] > FORMAT:
                raise BundleError(
                    f"{directory} has format {facts['format']}, this miniclip knows {FORMAT}; "
                    "upgrade miniclip"
                )
            return cls._from_facts(directory, facts)
        except MiniClipError:
            raise
        except (OSError, BadZipFile, EOFError, ValueError, LookupError, TypeError) as error:
            raise BundleError(f"{directory} is damaged ({error!r}); {_CURE}") from error

    @classmethod
    def _from_facts(cls, directory: Path, facts: dict[str, Any]) -> Self:
        head = facts["head"]
        reference = _read_arrays(directory / REFERENCE_FILE)
        images = json.loads((directory / IMAGES_FILE).read_text(encoding="utf-8"))
        learnt_from = [image for image in images if image["learnt_from"]]
        return cls(
            classes=tuple(facts["classes"]),
            head=load_head(head["kind"], head["settings"], _read_arrays(directory / HEAD_FILE)),
            rules=Rules.from_dict(facts["rules"]),
            gate=load_gate(facts["gate"], _read_arrays(directory / GATE_FILE)),
            reference=Reference(
                tuple(image["name"] for image in learnt_from),
                tuple(image["content"] for image in learnt_from),
                reference["labels"],
                reference["features"],
                reference["confidence"],
                reference["distance"],
                reference.get("hashes"),
            ),
            bundle_name=facts["bundle"]["name"],
            bundle_fingerprint=facts["bundle"]["fingerprint"],
            views_text=facts["views"],
            about=facts["about"],
            directory=directory,
        )

    def files(self) -> dict[str, bytes]:
        """Return the files that `open` needs but for `images.json`, by name."""
        facts = {
            "format": FORMAT,
            "classes": list(self.classes),
            "bundle": {"name": self.bundle_name, "fingerprint": self.bundle_fingerprint},
            "views": self.views_text,
            "head": {"kind": self.head.kind, "settings": dict(self.head.settings)},
            "rules": self.rules.to_dict(),
            "gate": dict(self.gate.settings),
            "about": dict(self.about),
        }
        return {
            MODEL_FILE: json_bytes(facts),
            HEAD_FILE: _array_bytes(self.head.arrays()),
            GATE_FILE: _array_bytes(self.gate.arrays()),
            REFERENCE_FILE: _array_bytes(
                {
                    name: kept
                    for name in ("features", "labels", "confidence", "distance", "hashes")
                    if (kept := getattr(self.reference, name)) is not None
                }
            ),
        }

    def find_bundle(self, wanted: str | Path | None = None) -> Bundle:
        """Find the bundle that this model was fitted on.

        wanted: a name or directory; None: the model's own copy, else the default bundle, else one
        of the recorded name. BundleError, naming both, when none of them is the right one.
        """
        own = self.directory / BUNDLE_FOLDER if self.directory else None
        if wanted is not None:
            return self.checked(Bundle.resolve(wanted))
        if own and own.is_dir():
            return self.checked(Bundle.open(own))
        found = Bundle.resolve(None, verify=False)
        if found.fingerprint != self.bundle_fingerprint:
            try:
                found = Bundle.resolve(self.bundle_name, verify=False)
            except BundleError as error:
                raise self._other_bundle(found.name, found.fingerprint) from error
        return self.checked(Bundle.open(found.directory))

    def checked(self, bundle: Bundle) -> Bundle:
        """Return the bundle; BundleError when this model was fitted on another one."""
        self.check_encoder(bundle.name, bundle.fingerprint)
        return bundle

    def check_encoder(self, name: str, fingerprint: str) -> None:
        """Raise BundleError unless the encoder of this name is the one of the fit."""
        if fingerprint != self.bundle_fingerprint:
            raise self._other_bundle(name, fingerprint)

    def _other_bundle(self, name: str, fingerprint: str) -> BundleError:
        return BundleError(
            f"the model was fitted on the bundle {self.bundle_name!r} "
            f"({self.bundle_fingerprint[:12]}...), this is {name!r} ({fingerprint[:12]}...), whose "
            "features mean something else; name the right one with --bundle, or fit again"
        )


def is_model(directory: Path) -> bool:
    """Whether a directory claims to be a fitted classifier."""
    return os.path.isfile(directory / MODEL_FILE)


def write_model(directory: Path, contents: Mapping[str, bytes], bundle: Path | None = None) -> None:
    """Write a model directory whole or not at all; an older model there is replaced.

    contents: file name -> bytes; bundle: a bundle directory to copy along. ConfigError when
    something else than a model stands there, StoreError when it cannot be written.
    """
    refuse_place(directory)
    try:
        with replacing_folder(directory) as fresh:
            for name, content in contents.items():
                (fresh / name).write_bytes(content)
            if bundle:
                _copy_bundle(Bundle.open(bundle), fresh / BUNDLE_FOLDER)
    except OSError as error:
        raise StoreError(
            f"cannot write the model {directory} ({error}); check the folder, its permissions and "
            "the disk, or choose another place"
        ) from error


def recalibrated(model: ClassifierModel, rules: Rules, directory: Path) -> None:
    """Write a copy of a model directory with other rules; errors as `write_model`.

    Its figures are those of the fit, so the copy leaves them out.
    """
    if model.directory is None:
        raise ConfigError("the model has no directory; write it first")
    images = (model.directory / IMAGES_FILE).read_bytes()
    own = model.directory / BUNDLE_FOLDER
    contents = replace(model, rules=rules).files() | {IMAGES_FILE: images}
    write_model(directory, contents, bundle=own if own.is_dir() else None)


def refuse_place(directory: Path) -> None:
    """Raise ConfigError when something that is no model, and not empty, stands there."""
    empty = os.path.isdir(directory) and not any(Path(directory).iterdir())
    if os.path.lexists(directory) and not (is_model(directory) or empty):
        raise ConfigError(
            f"{directory} exists and is no fitted model; choose another place for the model"
        )


def json_bytes(value: Any) -> bytes:
    """Return readable JSON as a file holds it."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", errors="surrogateescape"
    )


def _copy_bundle(bundle: Bundle, target: Path) -> None:
    target.mkdir()
    for name in ("bundle.json", *bundle.files):
        (target / name).write_bytes(bundle.path(name).read_bytes())


def _array_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
