"""An encoder that takes its time and counts what it is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from miniclip.arrays import FloatArray
from miniclip.encoder import ImageVectors
from miniclip.testing import FakeEncoder
from tests.serve.running import PATIENCE

MAP = 371  # pictures that one map of the usual method shows an encoder
_QUIET = 1.0  # seconds; an encoder that is wanted is asked again much sooner


@dataclass(frozen=True)
class SlowEncoder(FakeEncoder):
    """seconds: for each batch of pictures."""

    seconds: float = 0.1
    batches: list[int] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """Pictures that it was shown so far."""
        return sum(self.batches)

    def encode_pixels(self, pixels: FloatArray) -> ImageVectors:
        """As of a quick one."""
        self.batches.append(len(pixels))
        time.sleep(self.seconds)
        return super().encode_pixels(pixels)

    def settle(self) -> None:
        """Wait until nobody asks any more."""
        before = -1
        while before != self.asked:
            before = self.asked
            time.sleep(_QUIET)


def until(true: Callable[[], bool]) -> None:
    """Wait for what has to come."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)
