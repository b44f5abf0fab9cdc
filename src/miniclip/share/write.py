"""Write a bundle for others: the layout of transformers.js, perhaps a checkpoint, and a card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from miniclip.atomic import replacing_folder
from miniclip.bundle import TOKENIZER_FILE, Bundle
from miniclip.errors import ConfigError, ExportError
from miniclip.share.card import CARD, write_card
from miniclip.share.graphs import shared_graphs
from miniclip.share.processors import (
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    config,
    preprocessor,
    tokenizer_files,
)

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Shared:
    """What was written: files by name with their sizes in bytes.

    dual_encoder: whether transformers loads it as a VisionTextDualEncoder; reason: why not.
    """

    name: str
    directory: Path
    files: Mapping[str, int]
    dual_encoder: bool
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "name": self.name,
            "output": str(self.directory),
            "files": dict(self.files),
            "size_bytes": sum(self.files.values()),
            "vision_text_dual_encoder": self.dual_encoder,
            "reason": self.reason,
        }


def share_bundle(
    bundle: Bundle,
    directory: Path | str,
    *,
    checkpoint: Path | None = None,
    reason: str | None = None,
) -> Shared:
    """Write a bundle in the layout of transformers.js, whole or not at all.

    checkpoint: a folder with the config.json and model.safetensors of the same model in the format
    of transformers, which are then shared too; reason: why there is none. ConfigError when
    something stands at `directory`; ExportError for what these formats cannot say.
    """
    directory = Path(os.path.expanduser(directory)).absolute()
    refuse_occupied(directory)
    files: dict[str, bytes] = {
        **processor_files(bundle),
        **shared_graphs(bundle),
        CONFIG_FILE: json_bytes(_config(bundle, checkpoint)),
        CARD: write_card(bundle, dual_encoder=checkpoint is not None).encode(),
    }
    try:
        with replacing_folder(directory) as fresh:
            for name, content in files.items():
                (fresh / name).parent.mkdir(exist_ok=True)
                (fresh / name).write_bytes(content)
            if checkpoint:
                shutil.copyfile(checkpoint / WEIGHTS_FILE, fresh / WEIGHTS_FILE)
    except OSError as error:
        raise ExportError(
            f"cannot write {directory} ({error.strerror or error}); check the disk and your "
            "permissions"
        ) from error
    sizes = {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    return Shared(bundle.name, directory, sizes, checkpoint is not None, reason)


def processor_files(bundle: Bundle) -> dict[str, bytes]:
    """Return the files by which others make the model's pixels and tokens."""
    spec = bundle.manifest.text
    files: dict[str, Any] = {PREPROCESSOR_FILE: preprocessor(bundle.manifest.image)}
    files |= tokenizer_files(bundle, spec) if spec else {}
    return {
        name: content if isinstance(content, bytes) else json_bytes(content)
        for name, content in files.items()
    }


def refuse_occupied(directory: Path) -> None:
    """Raise ConfigError unless nothing, or an empty folder, stands there."""
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        raise ConfigError(f"{directory} exists; name a new directory, or remove that one")


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Render a settings file."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _config(bundle: Bundle, checkpoint: Path | None) -> dict[str, Any]:
    tokens = 0
    if bundle.manifest.text:
        core = tokenizers.Tokenizer.from_file(str(bundle.path(TOKENIZER_FILE)))
        tokens = core.get_vocab_size(with_added_tokens=True)
    own = config(bundle.manifest, tokens)
    if checkpoint is None:
        return own
    content: dict[str, Any] = json.loads((checkpoint / CONFIG_FILE).read_text(encoding="utf-8"))
    for part in (content, *(value for value in content.values() if isinstance(value, dict))):
        part.pop("_name_or_path", None)  # where the towers lay on this machine
    return content | {key: own[key] for key in ("transformers.js_config", "miniclip")}
