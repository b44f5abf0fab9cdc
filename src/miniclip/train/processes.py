"""Several processes that train together, started again when one of them dies.

torch's elastic agent, the one of `torchrun`, starts and watches them; this file says what they run
and what came of it. How they divide a batch is told in `data.plan`, how a run goes on in `run`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from miniclip.errors import MiniClipError, TrainingError

Result = TypeVar("Result")
_LOOPBACK = ("lo", "lo0")
_HANDLED = (signal.SIGTERM, signal.SIGINT)


class World(NamedTuple):
    """The processes of a run: equally many on each of its hosts."""

    processes: int
    hosts: int

    @property
    def size(self) -> int:
        """All processes."""
        return self.processes * self.hosts


def run_processes(work: Callable[[], Result], *, processes: int, restarts: int) -> Result:
    """Do the same work in several processes of this host; return what the first one returns.

    work: can be pickled, and goes on where it was when it is called again. When a process dies or
    fails, the others are ended and all start again, `restarts` times at most; an error of our own,
    which a restart would not cure, is raised at once. TrainingError when it was in vain,
    KeyboardInterrupt after Ctrl-C; no process is left then.
    """
    # torch would have restarted processes meet in the store of those that died, and find these.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # What torchrun would say for --standalone: a meeting place of its own, on a free port.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=restarts,
        start_method=_start_method(),
        signals_to_handle=",".join(number.name for number in _HANDLED),
    )
    with _handlers_kept():
        try:
            results = elastic_launch(config, _work)(work, dict(os.environ))
        except ChildFailedError as error:
            raise TrainingError(
                f"training failed {restarts + 1} times, at last since {_in_words(error)}; cure "
                "that, or give it more memory, and go on with --resume"
            ) from error
        except SignalException as stop:
            if stop.sigval == signal.SIGINT:
                raise KeyboardInterrupt from stop
            raise TrainingError("told to end; go on with --resume") from stop
    result: Result | MiniClipError = results[0]
    if isinstance(result, MiniClipError):
        raise result
    return result


def _work(work: Callable[[], Result], environment: dict[str, str]) -> Result | MiniClipError:
    """Do the work in a new process. environment: that of the parent, which may be new as well."""
    os.environ.update(environment)
    rank_zero_only.rank = int(os.environ["RANK"])  # what Lightning reads when it is imported
    for _, name in socket.if_nameindex():
        if name in _LOOPBACK:  # all are on this host, whatever its name may resolve to
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    try:
        return work()
    except MiniClipError as error:
        return error


def world_from_outside() -> World | None:
    """Return the world that torchrun or `run_processes` made, None in a process of neither."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return World(here, int(os.environ["WORLD_SIZE"]) // here)


def was_restarted() -> bool:
    """Whether this process takes the place of one that died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def _start_method() -> str:
    """Prefer processes that split off from one which has imported torch: a restart takes less."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(["miniclip.train.run"])
    return "forkserver"


def _in_words(error: ChildFailedError) -> str:
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else "failed"
    return f"process {rank} {how}"


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back what the agent makes of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
