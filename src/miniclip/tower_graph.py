"""`TowerGraph`: one ONNX file, loaded at first use and held to its ports, whatever runs it.

The runtimes are in `onnx_encoder` and `openvino_encoder`; they say how a file is loaded and called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miniclip.arrays import FloatArray
from miniclip.errors import BundleError

CURE = "export the bundle again"

# Name -> (element type, shape); None for a size, or for the whole shape, where any will do.
Ports = Mapping[str, tuple[str, tuple[int | None, ...] | None]]
Feeds = Mapping[str, NDArray[Any]]


class FoundPort(NamedTuple):
    """What a file says of an input or output. element: as in ONNX, "tensor(float)"."""

    element: str
    shape: Sequence[int | str | None]


@dataclass
class TowerGraph(ABC):
    """A graph of a bundle; threads may share one. BundleError when it does not load, fit or run.

    threads: how many processors one run may keep busy; lanes: how many runs at once to expect.
    """

    path: Path
    threads: int
    inputs: Ports
    outputs: Ports
    lanes: int = 1
    _loaded: bool = field(default=False, init=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    @abstractmethod
    def load(self) -> None:
        """Load the file. Whatever this raises is reported as a BundleError."""

    @abstractmethod
    def found(self) -> tuple[Mapping[str, FoundPort], Mapping[str, FoundPort]]:
        """Return the inputs and outputs of the loaded file, by name."""

    @abstractmethod
    def call(self, feeds: Feeds) -> list[FloatArray]:
        """Compute `outputs`, in order. Whatever this raises is reported as a BundleError."""

    def run(self, feeds: Feeds) -> list[FloatArray]:
        """Feed arrays by input name; the outputs in the order of `outputs`."""
        with self._lock:
            if not self._loaded:
                self._load()
                self._loaded = True
        try:
            results = self.call(feeds)
        except Exception as error:  # no runtime has error classes of its own
            raise BundleError(f"{self.path} failed to run: {error}; {CURE}") from error
        for name, result in zip(self.outputs, results, strict=True):
            self._check_shape(name, self.outputs[name][1], result.shape)
            if not np.isfinite(result).all():
                raise BundleError(f"{self.path}: {name} is not finite; {CURE}")
        return results

    def _load(self) -> None:
        try:
            self.load()
        except Exception as error:  # no runtime has error classes of its own
            raise BundleError(f"{self.path} does not load: {error}; {CURE}") from error
        inputs, outputs = self.found()
        self._check("inputs", self.inputs, inputs, exact=True)
        self._check("outputs", self.outputs, outputs, exact=False)

    def _check(
        self, kind: str, wanted: Ports, found: Mapping[str, FoundPort], *, exact: bool
    ) -> None:
        if not set(wanted) <= set(found) or (exact and len(wanted) != len(found)):
            raise BundleError(
                f"{self.path} has the {kind} {sorted(found)}, but needs {sorted(wanted)}; {CURE}"
            )
        for name, (element, shape) in wanted.items():
            if found[name].element != element:
                raise BundleError(
                    f"{self.path}: {name} is {found[name].element}, but must be {element}; {CURE}"
                )
            self._check_shape(name, shape, found[name].shape)

    def _check_shape(
        self, name: str, wanted: Sequence[int | None] | None, found: Sequence[int | str | None]
    ) -> None:
        """Compare sizes where both sides state one; a graph names free sizes by text."""
        if wanted is None:
            return
        fits = len(found) == len(wanted) and all(
            want is None or not isinstance(size, int) or size == want
            for want, size in zip(wanted, found, strict=True)
        )
        if not fits:
            raise BundleError(
                f"{self.path}: {name} has shape {list(found)}, but bundle.json says "
                f"{list(wanted)}; {CURE}"
            )
