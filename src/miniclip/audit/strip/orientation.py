"""The one tag that stays: which way up a picture is. An EXIF block with nothing else in it."""

from __future__ import annotations

import struct

_ORIENTATION, _SHORT = 0x0112, 3


def exif_block(orientation: int) -> bytes:
    """Return a TIFF header and one directory with one entry (EXIF 2.32, section 4.5)."""
    entry = struct.pack("<HHIHH", _ORIENTATION, _SHORT, 1, orientation, 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
