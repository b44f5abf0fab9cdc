"""`OpenvinoEncoder`: a bundle run by OpenVINO, the one file that imports it. Needs [openvino].

It is worth having on Intel processors that multiply in bfloat16: several times the speed there, for
a difference in the fourth digit. Whether a model bears that is measured before it is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, Self

import numpy as np

from miniclip.arrays import FloatArray
from miniclip.atomic import replacing
from miniclip.bundle import PARITY_FILE, Bundle
from miniclip.bundle_encoder import BundleEncoder
from miniclip.errors import ExportError, MissingExtraError, StoreError
from miniclip.home import cache_dir
from miniclip.pull.parity import (
    MIN_LOSSY_COSINE,
    check_once,
    compare,
    encode_probes,
    read_parity,
)
from miniclip.tower_graph import Feeds, FoundPort, TowerGraph

try:
    import openvino as ov
except ImportError as error:
    raise MissingExtraError("the runtime openvino", "openvino") from error

# The first array that OpenVINO ever sees takes a lock inside it; two threads that brought theirs at
# once would wait for each other for ever.
ov.Tensor(np.zeros(1, dtype=np.float32))

_ELEMENTS = {"f32": "tensor(float)", "i64": "tensor(int64)", "i32": "tensor(int32)"}


class OpenvinoEncoder(BundleEncoder):
    """An `Encoder` that runs a bundle by OpenVINO, on the CPU.

    bfloat16: whether products are computed in it; vectors are float32 all the same.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, *, bfloat16: bool = False
    ) -> None:
        """Arguments as for `BundleEncoder`."""
        super().__init__(bundle, threads, partial(OpenvinoGraph, bfloat16=bfloat16))
        self.bfloat16 = bfloat16

    @classmethod
    def open(
        cls, bundle: Bundle, *, threads: int | None = None, bfloat16: bool | None = None
    ) -> Self:
        """Make an encoder of a bundle; threads as for `BundleEncoder`.

        bfloat16: None where the processor has it and the vectors of the probes keep a cosine of
        0.999; that is measured once on a machine. In float32, the bundle is held against its
        parity record the first time: BundleError when it does not give the vectors that it should.
        """
        if bfloat16 is None:
            bfloat16 = _processor_has_bfloat16() and _bears_bfloat16(bundle, threads)
        encoder = cls(bundle, threads, bfloat16=bfloat16)
        if not bfloat16:
            check_once(bundle, encoder, f"openvino {ov.__version__}")
        return encoder


@dataclass
class OpenvinoGraph(TowerGraph):
    """One ONNX file in OpenVINO, on the CPU; runs beyond `lanes` wait for a free one."""

    bfloat16: bool = False
    _model: Any = field(init=False, repr=False)
    _free: SimpleQueue[Any] = field(default_factory=SimpleQueue, init=False, repr=False)

    def load(self) -> None:
        """Compile the graph."""
        self._model = ov.Core().compile_model(
            str(self.path),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if self.bfloat16 else "f32",
                "INFERENCE_NUM_THREADS": self.threads * self.lanes,
                "NUM_STREAMS": self.lanes,
                "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # small weights do not ask for rough products
            },
        )
        for _ in range(self.lanes):
            self._free.put(self._model.create_infer_request())

    def found(self) -> tuple[Mapping[str, FoundPort], Mapping[str, FoundPort]]:
        """Return the inputs and outputs of the file."""
        return _ports(self._model.inputs), _ports(self._model.outputs)

    def call(self, feeds: Feeds) -> list[FloatArray]:
        """Compute the outputs."""
        request = self._free.get()
        try:
            results = request.infer(dict(feeds), share_inputs=True)
            return [results[name].copy() for name in self.outputs]
        finally:
            self._free.put(request)


def _ports(ports: Iterable[Any]) -> dict[str, FoundPort]:
    return {
        port.get_any_name(): FoundPort(
            _ELEMENTS.get(port.get_element_type().get_type_name(), "another type"),
            [size.get_length() if size.is_static else None for size in port.get_partial_shape()],
        )
        for port in ports
    }


def _processor_has_bfloat16() -> bool:
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _bears_bfloat16(bundle: Bundle, threads: int | None) -> bool:
    """Compare with the original model or, for a bundle that has no record of it, with float32."""
    processor = ov.Core().get_property("CPU", "FULL_DEVICE_NAME")
    parts = (bundle.fingerprint, bundle.files.get(PARITY_FILE, ""), ov.__version__, str(processor))
    key = "\n".join(parts)
    mark = cache_dir(create=False) / "bfloat16" / hashlib.sha256(key.encode()).hexdigest()
    if mark.exists():
        return mark.read_text() == "yes"
    texts = bundle.manifest.text is not None
    expected = read_parity(bundle) or encode_probes(OpenvinoEncoder(bundle, threads), texts=texts)
    found = encode_probes(OpenvinoEncoder(bundle, threads, bfloat16=True), texts=texts)
    try:
        compare(expected, found, least=MIN_LOSSY_COSINE)
    except ExportError:
        near = False
    else:
        near = True
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        with replacing(mark) as stream:
            stream.write(b"yes" if near else b"no")
    except (OSError, StoreError):  # then the next load measures again
        pass
    return near
