"""`OnnxEncoder`: a bundle run by onnxruntime, the runtime that everybody has.

It says how a file is loaded and called, and nothing else; `quantize/` uses the same library to make
files smaller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import onnxruntime as ort

from miniclip.arrays import FloatArray
from miniclip.bundle import Bundle
from miniclip.bundle_encoder import BundleEncoder
from miniclip.pull.parity import check_once
from miniclip.tower_graph import Feeds, FoundPort, TowerGraph


class OnnxEncoder(BundleEncoder):
    """An `Encoder` that runs a bundle by onnxruntime."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Arguments as for `BundleEncoder`."""
        super().__init__(bundle, threads, OnnxGraph)

    @classmethod
    def open(cls, bundle: Bundle, *, threads: int | None = None) -> Self:
        """Make an encoder of a bundle; threads as for `BundleEncoder`.

        The first time on a machine, the bundle is held against its parity record, if it has one:
        BundleError when it does not give the vectors that it should.
        """
        encoder = cls(bundle, threads)
        check_once(bundle, encoder, f"onnxruntime {ort.__version__}")
        return encoder


@dataclass
class OnnxGraph(TowerGraph):
    """One ONNX file in onnxruntime, on the CPU."""

    _session: ort.InferenceSession = field(init=False, repr=False)

    def load(self) -> None:
        """Plan the graph."""
        self._session = ort.InferenceSession(
            str(self.path), _options(self.threads), providers=["CPUExecutionProvider"]
        )

    def found(self) -> tuple[Mapping[str, FoundPort], Mapping[str, FoundPort]]:
        """Return the inputs and outputs of the file."""
        inputs, outputs = (
            {port.name: FoundPort(port.type, port.shape) for port in ports}
            for ports in (self._session.get_inputs(), self._session.get_outputs())
        )
        return inputs, outputs

    def call(self, feeds: Feeds) -> list[FloatArray]:
        """Compute the outputs."""
        results: list[FloatArray] = self._session.run(list(self.outputs), dict(feeds))
        return results


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; nothing belongs on stderr
    # Idle workers would otherwise spin on the cores that decode the next photos.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
