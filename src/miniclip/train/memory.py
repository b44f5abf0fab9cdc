"""Memory that one step frees is kept for the next, where the C library can be told so.

Blocks of activations are large, and glibc gives large blocks back to the system at once. Asking for
them again at every step makes the system clear the same pages over and over.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # from glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Stop glibc from returning freed memory; return whether there is a glibc that does so."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library, or another system
        return False
    settings = ((_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 2**28), (_MMAP_MAX, 0))
    taken = [mallopt(setting, value) for setting, value in settings]
    return all(taken)
