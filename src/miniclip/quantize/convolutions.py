"""A convolutional network in int8, by onnxruntime's own static quantisation.

Unlike a transformer, a chain of convolutions can stay in integers from one to the next, which is
what that library writes (QDQ). Scales are fixed beforehand, as in `int8`, and for the same reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from miniclip.tower_graph import Feeds

# Chains of these; heads, norms and statistics behind them stay in float32, for they cost no time.
_IN_INTEGERS = ["Conv", "Add", "Clip", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool"]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """What onnxruntime asks for examples, one batch at a time."""

    def __init__(self, feeds: Iterable[Feeds]) -> None:
        self._coming = iter(feeds)

    def get_next(self) -> dict[str, object] | None:
        batch = next(self._coming, None)
        return None if batch is None else dict(batch)


def quantise_convolutions(source: Path, target: Path, feeds: Iterable[Feeds]) -> None:
    """Write a graph with its convolutions in int8, scaled on the given batches."""
    folded = source.with_name("folded.onnx")
    with _quiet():
        # A batch normalisation that is not part of its convolution would be rounded by itself.
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            target,
            _Batches(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_IN_INTEGERS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice that onnxruntime logs for people who call it by hand."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
