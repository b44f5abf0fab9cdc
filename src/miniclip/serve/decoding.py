"""`Decoders`: processes that decode what strangers upload; one that dies takes only its job along.

A process that is killed, hangs or grows too large is replaced at once, and a spare request never
notices. Answers are plain bytes, never objects. What is done with a picture is in `decode_worker`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from miniclip.arrays import FloatArray
from miniclip.errors import ImageError
from miniclip.images import ImageSource
from miniclip.preprocess import ImageSpec
from miniclip.serve.decode_worker import LENGTHS
from miniclip.serve.failures import DecoderDiedError
from miniclip.serve.settings import Settings

_PIPE_BYTES = 4 << 20
_START_SECONDS = 30.0
_PAUSE = 0.5  # seconds before a process that ended at once is started again
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_SECRETS = ("MINICLIP_TOKEN",)


class Decoders:
    """A few processes that decode; start and close it on one event loop."""

    def __init__(self, spec: ImageSpec, settings: Settings) -> None:
        self._spec, self._settings = spec, settings
        self._count = settings.decoders
        self._free: asyncio.Queue[Process] = asyncio.Queue()
        self._keepers: list[asyncio.Task[None]] = []
        self._alive: set[Process] = set()
        self.restarts = 0

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes that are alive."""
        return [process.pid for process in self._alive]

    async def start(self) -> None:
        """Start all processes, and keep as many from now on."""
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]

    async def close(self) -> None:
        """End all processes."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []

    async def pixels(self, data: bytes, views: str = "plain") -> FloatArray:
        """Decode and preprocess an image: (V, *spec.shape) float32, a row for each view.

        ImageError without a name for what is no image, is too large or takes too long;
        DecoderDiedError when its process was killed.
        """
        _, found = await self._ask({"do": "pixels", "views": views}, data)
        return np.frombuffer(found, dtype=np.float32).reshape(-1, *self._spec.shape)

    async def picture(self, data: bytes) -> Image.Image:
        """Decode an image to RGB, perhaps smaller than it is, as large as explaining needs it."""
        said, found = await self._ask({"do": "picture"}, data)
        return Image.frombytes("RGB", tuple(said["size"]), found)

    async def thumbnail(self, source: ImageSource, side: int) -> bytes:
        """Return a JPEG with no side above `side` pixels."""
        place = {"path": os.fspath(source.path)} if source.path else {}
        job = {"do": "thumbnail", "side": side, "offset": source.offset, "size": source.size}
        _, found = await self._ask(job | place, source.data or b"")
        return found

    async def facts(self, data: bytes) -> str:
        """Return the facts of an image as JSON, as `probe.facts` gathers them."""
        # A process may have to load SciPy first.
        said, _ = await self._ask({"do": "facts"}, data, more_seconds=_START_SECONDS)
        return str(said["facts"])

    async def _ask(
        self, job: dict[str, Any], data: bytes, *, more_seconds: float = 0.0
    ) -> tuple[dict[str, Any], bytes]:
        process = await self._free_process()
        seconds = self._settings.decode_seconds + more_seconds
        # Whoever gives up waiting leaves the process to end its job in peace.
        outcome = await asyncio.shield(
            asyncio.create_task(self._converse(process, job, data, seconds))
        )
        if isinstance(outcome, Exception):
            raise outcome
        said, found = outcome
        if "error" in said:
            raise ImageError(said["error"])
        return said, found

    async def _converse(
        self, process: Process, job: dict[str, Any], data: bytes, seconds: float
    ) -> tuple[dict[str, Any], bytes] | Exception:
        """Have a process do a job, and put it back; errors are returned, perhaps to nobody."""
        try:
            async with asyncio.timeout(seconds):
                outcome = await _exchange(
                    process, job | {"max_pixels": self._settings.max_pixels}, data
                )
        except TimeoutError:
            _kill(process)  # half an answer may lie in its pipe
            return ImageError(f"decoding took longer than {seconds:g} s; make the image smaller")
        except (asyncio.IncompleteReadError, OSError):
            _kill(process)
            return DecoderDiedError(
                "the process that decoded the image was killed; ask again, or leave the image out"
            )
        except BaseException:
            _kill(process)
            raise
        self._free.put_nowait(process)
        return outcome

    async def _free_process(self) -> Process:
        while True:
            process = await self._free.get()
            if process.returncode is None:
                return process

    async def _keep(self) -> None:
        """Have one process alive, whatever happens to it."""
        while True:
            begun = time.monotonic()
            process = await self._start_process()
            self._alive.add(process)
            try:
                with suppress(TimeoutError, asyncio.IncompleteReadError, OSError):
                    async with asyncio.timeout(_START_SECONDS):
                        await _read(process)  # that it is ready
                    self._free.put_nowait(process)
                    await process.wait()
            finally:
                _kill(process)
                self._alive.discard(process)
                await _end(process)
            self.restarts += 1
            if time.monotonic() - begun < _PAUSE:
                await asyncio.sleep(_PAUSE)

    async def _start_process(self) -> Process:
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "miniclip.serve.decode_worker"),
            *(json.dumps(self._spec.to_dict()), str(self._settings.decode_bytes)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=environment | _THREADS,
            limit=_PIPE_BYTES,
        )


async def _exchange(
    process: Process, job: dict[str, Any], data: bytes
) -> tuple[dict[str, Any], bytes]:
    assert process.stdin is not None  # it was started with pipes
    words = json.dumps(job).encode()
    process.stdin.write(LENGTHS.pack(len(words), len(data)) + words)
    process.stdin.write(data)
    await process.stdin.drain()
    return await _read(process)


async def _read(process: Process) -> tuple[dict[str, Any], bytes]:
    assert process.stdout is not None  # it was started with pipes
    words, size = LENGTHS.unpack(await process.stdout.readexactly(LENGTHS.size))
    said: dict[str, Any] = json.loads(await process.stdout.readexactly(words))
    return said, await process.stdout.readexactly(size)


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


async def _end(process: Process) -> None:
    """Wait for the end of a killed process and let go of its pipes."""
    if process.stdin:
        process.stdin.close()
        with suppress(OSError):
            await process.stdin.wait_closed()
    await process.wait()
