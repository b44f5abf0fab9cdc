"""A TIFF in which everything but the picture is blank; what is kept stays where it was.

Directories are thinned out in place, and the values that left are overwritten with zeros, so that
no offset changes. After TIFF 6.0, sections 2 and 8. Files of over 4 GiB (BigTIFF) and those with
pictures inside pictures (DNG) are refused: nobody could promise that nothing is left in them.
Bytes that no directory speaks of, as editors may leave, are not found.
"""

from __future__ import annotations

import struct

from miniclip.errors import ImageError

_SIZE_OF = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_EXIF, _GPS, _INTEROP, _SUB_IFDS = 34665, 34853, 40965, 330
# Everything that says how the strips or tiles become pixels, how large and which way up.
_KEPT = frozenset((
    254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 282,
    283, 284, 290, 291, 292, 293, 296, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 332, 334,
    336, 338, 339, 340, 341, 342, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531,
    532, 34675,
))  # fmt: skip


def strip_tiff(data: bytes) -> bytes:
    """Return the file with all other tags gone; ImageError where that cannot be promised."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or struct.unpack_from(order + "H", data, 2)[0] != 42:
        raise ImageError("a TIFF of over 4 GiB (BigTIFF), or none; save it as PNG to strip it")
    blank = bytearray(data)
    (place,) = struct.unpack_from(order + "I", data, 4)
    seen: set[int] = set()
    try:
        while place and place not in seen:
            seen.add(place)
            place = _thin(data, blank, order, place)
    except struct.error as error:
        raise ImageError("the TIFF is cut off or damaged; save it again") from error
    return bytes(blank)


def _thin(data: bytes, blank: bytearray, order: str, place: int) -> int:
    """Thin one directory out; returns where the next one lies."""
    (count,) = struct.unpack_from(order + "H", data, place)
    end = place + 2 + 12 * count
    (following,) = struct.unpack_from(order + "I", data, end)
    kept = []
    for at in range(place + 2, end, 12):
        tag = struct.unpack_from(order + "H", data, at)[0]
        if tag == _SUB_IFDS:
            raise ImageError(
                "a TIFF with pictures inside pictures (DNG); save it as PNG to strip it"
            )
        if tag in _KEPT:
            kept.append(data[at : at + 12])
        else:
            _wipe(data, blank, order, at)
    thin = (
        struct.pack(order + "H", len(kept)) + b"".join(kept) + struct.pack(order + "I", following)
    )
    blank[place : end + 4] = thin.ljust(end + 4 - place, b"\0")
    return int(following)


def _wipe(data: bytes, blank: bytearray, order: str, at: int) -> None:
    """Blank what an entry points to, and a directory below it with all that this one points to."""
    tag, kind, count, offset = struct.unpack_from(order + "HHII", data, at)
    if tag in (_EXIF, _GPS, _INTEROP):
        (entries,) = struct.unpack_from(order + "H", data, offset)
        for entry in range(offset + 2, offset + 2 + 12 * entries, 12):
            _wipe(data, blank, order, entry)
        size = 2 + 12 * entries + 4
    else:
        size = _SIZE_OF.get(kind, 1) * count
        if size <= 4:
            return  # the value lies in the entry itself
    size = max(min(size, len(blank) - offset), 0)
    blank[offset : offset + size] = bytes(size)
