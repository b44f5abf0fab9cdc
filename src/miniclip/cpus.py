"""How many processors there are for this process. It starts no threads."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Count the processors that this process may use: a container's share, not the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
