"""A process that decodes pictures for the server, and that may die of one: `python -m` this file.

It reads jobs on stdin and answers on stdout, one at a time: lengths, JSON, bytes (see `Frame`), so
that nothing which a hostile picture might make of this process can run in the server. It may take
so much memory and no more, writes no file, and ends when its stdin does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from miniclip.errors import MiniClipError
from miniclip.images import ImageSource, decode
from miniclip.preprocess import ImageSpec, preprocess
from miniclip.views import named_views

LENGTHS = struct.Struct("<II")  # of the JSON and of the bytes that follow it
NAME = "the image"
_POLITE = 5  # steps of niceness


def main(arguments: list[str]) -> None:
    """arguments: the image spec as JSON; bytes of memory that may be used."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a C library might print is no answer
    spec = ImageSpec.from_dict(json.loads(arguments[0]))
    _confine(int(arguments[1]))
    with answers, contextlib.suppress(BrokenPipeError):
        _send(answers, {"ready": True}, b"")
        while (frame := _receive(sys.stdin.buffer)) is not None:
            _send(answers, *_answered(spec, *frame))


def _confine(most_bytes: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us
    if os.name != "posix":
        return
    import resource  # noqa: PLC0415 - Windows has none

    os.nice(_POLITE)
    for what, most in (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS knows no RLIMIT_AS
            resource.setrlimit(what, (limit, limit))


def _answered(spec: ImageSpec, job: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    source = ImageSource(NAME, data=data)
    if job.get("path") is not None:
        path = Path(job["path"])
        source = ImageSource(NAME, path, offset=job["offset"], size=job["size"])
    try:
        return _JOBS[job["do"]](spec, source, job)
    except MiniClipError as error:
        return {"error": str(error).removeprefix(f"{NAME}: ")}, b""
    except Exception as error:  # as in images.decode: hostile bytes make decoders raise anything
        return {"error": f"the image cannot be used ({type(error).__name__})"}, b""


def _pixels(
    spec: ImageSpec, source: ImageSource, job: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """Return (V, *shape) float32, one for each view; decoded as `embed_stream` does."""
    rows = []
    for view in named_views(job["views"]):
        least = spec.enough(view.zoom)
        image = decode(source, max_pixels=job["max_pixels"], at_least=least)
        rows.append(preprocess(view.apply(image), spec))
    return {}, np.stack(rows).tobytes()


def _picture(
    spec: ImageSpec, source: ImageSource, job: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """Return RGB, no smaller than the model needs it."""
    least = spec.enough()
    image = decode(source, max_pixels=job["max_pixels"], at_least=least)
    if (factor := min(image.size) // least) > 1:
        image = image.reduce(factor)
    return {"size": image.size}, image.tobytes()


def _thumbnail(
    _spec: ImageSpec, source: ImageSource, job: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """Return a JPEG with no side above `side`, and nothing of the file but its pixels."""
    side = job["side"]
    image = decode(source, max_pixels=job["max_pixels"], at_least=side)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return {}, out.getvalue()


def _facts(
    _spec: ImageSpec, source: ImageSource, job: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """Return what is known of an image without a model, as the cache of features keeps it."""
    from miniclip.probe.facts import THUMBNAIL, facts_of  # noqa: PLC0415 - SciPy, seldom needed

    image = decode(source, max_pixels=job["max_pixels"], at_least=4 * THUMBNAIL)
    return {"facts": facts_of(source, image).to_json()}, b""


_JOBS = {"pixels": _pixels, "picture": _picture, "thumbnail": _thumbnail, "facts": _facts}


def _receive(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    head = stream.read(LENGTHS.size)
    if len(head) < LENGTHS.size:
        return None
    words, size = LENGTHS.unpack(head)
    job: dict[str, Any] = json.loads(stream.read(words))
    return job, stream.read(size)


def _send(stream: BinaryIO, said: dict[str, Any], data: bytes) -> None:
    words = json.dumps(said).encode()
    stream.write(LENGTHS.pack(len(words), len(data)) + words)
    stream.write(data)
    stream.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
