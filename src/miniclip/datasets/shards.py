"""WebDataset shards: tar files in which NAME.jpg goes with NAME.txt or NAME.json.

Only the texts are read here. An image stays in its shard: a member of an uncompressed tar is a
range of bytes, read when it is decoded, so memory does not grow with the images.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import tarfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from miniclip.datasets.rows import CAPTION_KEYS, Row, unreadable
from miniclip.embed import Skipped
from miniclip.errors import DatasetError
from miniclip.images import ImageSource

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_TEXTS = frozenset({"txt", "json"})
_MAX_TEXT_BYTES = 1 << 20
_MAX_SHARDS = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_shards(pattern: Path) -> list[Path]:
    """List the files that a pattern means: braces {000..009} or {a,b}, globs, or a folder of tars.

    Braces are spelled out whether the files exist or not; globs and folders give what is there,
    sorted. A plain path gives itself. Raises DatasetError for a URL.
    """
    text = str(pattern)
    if os.path.isfile(pattern):
        return [pattern]
    if re.match(r"\w\w+:/", text):
        raise DatasetError(f"{text} is a URL; download the shards first and give their local path")
    if os.path.isdir(pattern):
        return sorted(pattern.glob("*.tar"))
    found: list[Path] = []
    for name in _spell_out(text):
        is_glob = any(sign in name for sign in "*?[") and not os.path.exists(name)
        found.extend(Path(hit) for hit in (sorted(glob(name)) if is_glob else [name]))  # noqa: PTH207
    return found


def read_shards(pattern: Path) -> Iterator[Row | Skipped]:
    """Rows of all shards of a pattern; a shard that is missing or broken is skipped by name."""
    shards = expand_shards(pattern)
    if not shards:
        raise DatasetError(f"no shard matches {pattern}; check the pattern")
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):  # train/0.tar and dev/0.tar: their members must not mix
        names = [str(shard) for shard in shards]
    for shard, name in zip(shards, names, strict=True):
        if os.path.exists(shard):
            yield from _read_shard(shard, name)
        else:
            yield Skipped(str(shard), "no such shard")


def _read_shard(shard: Path, name: str) -> Iterator[Row | Skipped]:
    images: dict[str, ImageSource] = {}
    texts: dict[str, dict[str, bytes]] = {}
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, mode="r:") as tar:
            yield from _index(tar, name, size, images, texts)
    except tarfile.ReadError as error:
        yield Skipped(str(shard), f"compressed or damaged ({error}); unpack or replace it")
    except OSError as error:
        raise unreadable(shard, error) from error
    for key, source in images.items():
        yield from _sample(source, texts.pop(key, {}))
    for key in texts:
        yield Skipped(f"{name}/{key}", "a caption without an image")


def _index(
    tar: tarfile.TarFile,
    shard: str,
    size: int,
    images: dict[str, ImageSource],
    texts: dict[str, dict[str, bytes]],
) -> Iterator[Skipped]:
    """Sort the members of a tar into image ranges and text contents, by sample key."""
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else it keeps every header it has seen
        key, kind = _key_and_kind(member.name)
        if not member.isreg() or kind not in _IMAGES | _TEXTS:
            continue
        name = f"{shard}/{member.name}"
        if member.issparse() or member.offset_data + member.size > size:
            yield Skipped(
                name, "stored as sparse" if member.issparse() else "the shard ends within it"
            )
        elif kind in _IMAGES:
            images[key] = ImageSource(
                name=name, path=Path(str(tar.name)), offset=member.offset_data, size=member.size
            )
        elif member.size > _MAX_TEXT_BYTES:
            yield Skipped(name, f"{member.size} bytes are too many for a caption")
        else:
            content = tar.extractfile(member)
            texts.setdefault(key, {})[kind] = content.read() if content else b""


def _sample(source: ImageSource, texts: dict[str, bytes]) -> Iterator[Row | Skipped]:
    """Rows of one image: its NAME.txt, or else the caption in its NAME.json."""
    name = source.name
    try:
        if "txt" in texts:
            captions: object = texts["txt"].decode("utf-8-sig")
        else:
            record = json.loads(texts.get("json", b"{}"))
            keys = [key for key in CAPTION_KEYS if key in record]
            captions = record[keys[0]] if keys else None
    except (ValueError, TypeError, RecursionError) as error:
        yield Skipped(name, f"unreadable caption: {error}")
        return
    listed = captions if isinstance(captions, list) else [captions]
    good = [caption for caption in listed if isinstance(caption, str)]
    for caption in good:
        yield Row(name, caption, name, source)
    if not good:
        yield Skipped(name, "no caption: neither a .txt nor a caption in a .json goes with it")


def _key_and_kind(member: str) -> tuple[str, str]:
    """Split "dir/0001.jpg" at the first dot of its last part, as WebDataset does."""
    folder, _, file = member.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, suffix.lower()


def _spell_out(text: str) -> list[str]:
    """Spell out braces: "a{08..10}" -> a08, a09, a10; "{x,y}" -> x, y."""
    parts: list[list[str]] = []
    for position, part in enumerate(_BRACES.split(text)):
        found = _RANGE.fullmatch(part) if position % 2 else None
        if found:
            first, last = found.groups()
            numbers = range(int(first), int(last) + 1)
            if len(numbers) > _MAX_SHARDS:
                raise DatasetError(f"{text} means {len(numbers):,} shards; write a shorter range")
            parts.append([str(number).zfill(len(first)) for number in numbers])
        else:
            parts.append(part.split(",") if position % 2 else [part])
    return ["".join(choice) for choice in itertools.product(*parts)]
