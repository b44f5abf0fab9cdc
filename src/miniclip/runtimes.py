"""Which runtime runs a bundle: the choice between `onnx_encoder` and `openvino_encoder`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

from miniclip.bundle import Bundle
from miniclip.bundle_encoder import BundleEncoder
from miniclip.errors import ConfigError

Runtime = Literal["onnxruntime", "openvino", "openvino-float32"]
"""onnxruntime: everywhere, the default. openvino: often faster on processors by Intel, in bfloat16
where the processor has it and the model bears it. openvino-float32: never in bfloat16."""

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
RUNTIME_VARIABLE = "MINICLIP_RUNTIME"


def load_encoder(
    name_or_dir: str | Path | None = None,
    *,
    threads: int | None = None,
    runtime: str | None = None,
) -> BundleEncoder:
    """Find a bundle as `Bundle.resolve` does, verify it and open it for use.

    threads, runtime: as for `open_encoder`. BundleError when there is none or it is altered.
    """
    return open_encoder(Bundle.resolve(name_or_dir), threads=threads, runtime=runtime)


def open_encoder(
    bundle: Bundle, *, threads: int | None = None, runtime: str | None = None
) -> BundleEncoder:
    """Open a bundle for use.

    threads: how many of them one call may keep busy; None for the CPUs this process may use.
    runtime: one of `RUNTIMES`; None for the environment variable MINICLIP_RUNTIME, else the first.

    The first time on a machine, the bundle is held against its parity record, if it has one.
    BundleError when it does not give the vectors that it should, ConfigError for an unknown
    runtime, MissingExtraError for one that is not installed.
    """
    chosen = chosen_runtime(runtime)
    # Each runtime is loaded only where it is used: both are large.
    if chosen == "onnxruntime":
        from miniclip.onnx_encoder import OnnxEncoder  # noqa: PLC0415

        return OnnxEncoder.open(bundle, threads=threads)
    from miniclip.openvino_encoder import OpenvinoEncoder  # noqa: PLC0415

    exact = chosen == "openvino-float32"
    return OpenvinoEncoder.open(bundle, threads=threads, bfloat16=False if exact else None)


def chosen_runtime(runtime: str | None = None) -> Runtime:
    """Return a name of `RUNTIMES`: the given one, that of the environment, or the first."""
    wanted = runtime or os.environ.get(RUNTIME_VARIABLE) or RUNTIMES[0]
    for known in RUNTIMES:
        if known == wanted:
            return known
    raise ConfigError(f"no runtime {wanted!r}; choose one of {', '.join(RUNTIMES)}")
