"""PNG and WebP without the chunks that are not the picture; those kept stay to the byte.

After the PNG specification (W3C, third edition) and RFC 9649.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from miniclip.audit.strip.orientation import exif_block
from miniclip.errors import ImageError

_PNG = b"\x89PNG\r\n\x1a\n"
_OF_PNG = frozenset((
    b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP",
    b"mDCV", b"cLLI", b"sBIT", b"bKGD", b"hIST", b"pHYs", b"acTL", b"fcTL", b"fdAT",
))  # fmt: skip
_OF_WEBP = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))
_HAS_EXIF, _HAS_XMP = 0x08, 0x04  # flags of VP8X


def strip_png(data: bytes, orientation: int) -> bytes:
    """Return the picture alone; ImageError when the chunks do not add up."""
    kept = [_PNG]
    for kind, content in _png_chunks(data):
        if kind == b"IDAT" and orientation != 1:
            kept.append(_png_chunk(b"eXIf", exif_block(orientation)))
            orientation = 1  # once
        if kind == b"iCCP":  # begins with a name that people may choose
            content = b"ICC" + content[content.index(b"\0") :]  # noqa: PLW2901
        if kind in _OF_PNG:
            kept.append(_png_chunk(kind, content))
    return b"".join(kept)


def strip_webp(data: bytes, orientation: int) -> bytes:
    """Return the picture alone; ImageError when the chunks do not add up."""
    turned = orientation != 1
    chunks = [(kind, content) for kind, content in _webp_chunks(data) if kind in _OF_WEBP]
    # A plain file has no room for EXIF, but then it had none to say that it is turned.
    kept = [
        (kind, _flags(content, turned) if kind == b"VP8X" else content) for kind, content in chunks
    ]
    if turned:
        kept.append((b"EXIF", exif_block(orientation)))
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for kind, content in kept
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _flags(content: bytes, turned: bool) -> bytes:
    flags = content[0] & ~(_HAS_EXIF | _HAS_XMP) | (_HAS_EXIF if turned else 0)
    return bytes([flags]) + content[1:]


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_PNG)
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        if place + 12 + size > len(data):
            break
        yield kind, data[place + 8 : place + 8 + size]
        if kind == b"IEND":  # what lies behind it is no picture
            return
        place += 12 + size
    raise ImageError("the PNG is cut off or damaged; save it again")


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place, end = 12, min(8 + int.from_bytes(data[4:8], "little"), len(data))
    while place + 8 <= end:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if place + 8 + size > end:
            raise ImageError("the WebP is cut off or damaged; save it again")
        yield data[place : place + 4], data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
