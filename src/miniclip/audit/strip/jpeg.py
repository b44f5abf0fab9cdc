"""A JPEG without its application segments, comments and whatever lies behind the picture.

Kept: the frame, its tables and scans, to the byte; JFIF without its thumbnail; the ICC profile;
Adobe's marker, which says what the colours mean; the orientation. After ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct

from miniclip.audit.strip.orientation import exif_block
from miniclip.errors import ImageError

_EOI, _SOS, _COMMENT = 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_STANDALONE = {0x01, *range(0xD0, 0xD8)}


def strip_jpeg(data: bytes, orientation: int) -> bytes:
    """Return the picture alone; ImageError when the segments do not add up."""
    kept, place = [b"\xff\xd8"], 2
    while True:
        while data[place : place + 2] == b"\xff\xff":  # fill bytes may stand before a marker
            place += 1
        lead, marker = (*data[place : place + 2], 0, 0)[:2]
        if marker == _EOI:
            return b"".join(kept) + b"\xff\xd9"
        if lead != 0xFF or place + 4 > len(data):
            raise ImageError("the JPEG is cut off or damaged; save it again")
        if marker in _STANDALONE:
            place += 2
            continue
        size = int.from_bytes(data[place + 2 : place + 4], "big")
        content = data[place + 4 : place + 2 + size]
        if orientation != 1 and marker != _APP0:  # JFIF wants to be first
            kept.append(_segment(_APP1, b"Exif\0\0" + exif_block(orientation)))
            orientation = 1  # once
        if (stays := _kept(marker, content)) is not None:
            kept.append(_segment(marker, stays))
        place += 2 + size
        if marker == _SOS:
            end = _end_of_scan(data, place)
            kept.append(data[place:end])
            place = end
            if place >= len(data):  # no end marker, as some cameras write
                return b"".join(kept) + b"\xff\xd9"


def _kept(marker: int, content: bytes) -> bytes | None:
    if marker == _APP0:
        # Version, unit and density; then a thumbnail of 0 x 0.
        return content[:12] + b"\0\0" if content[:5] == b"JFIF\0" else None
    if marker == _APP2:
        return content if content[:12] == b"ICC_PROFILE\0" else None
    if marker == _APP14:
        return content[:12] if content[:5] == b"Adobe" else None
    return None if _APP0 <= marker <= _APP15 or marker == _COMMENT else content


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _end_of_scan(data: bytes, place: int) -> int:
    """Find the marker behind compressed data, in which 0xFF is followed by 0 or a restart."""
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        following = data[place + 1]
        if following and following not in _STANDALONE and following != 0xFF:
            return place
        place += 1 if following == 0xFF else 2
    return len(data)
