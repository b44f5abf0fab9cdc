"""Where a pretrained Hugging Face model comes from; the one file that calls its loaders.

A source is a directory, `package:NAME/SUBDIRECTORY` (inside an installed Python package), or a hub
id such as `microsoft/resnet-50`. What a model means, its pooling or its pixels, is decided by
`image` and `text`.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from miniclip.errors import TrainingError
from miniclip.home import cache_dir

PACKAGE_PREFIX = "package:"


class Pretrained(NamedTuple):
    """A loaded model, in float32 and eval mode.

    untrained: names of parameters that the checkpoint does not hold, so they are random.
    """

    model: nn.Module
    untrained: frozenset[str]


def locate(source: str) -> str:
    """Turn a source into what transformers accepts: a directory or a hub id.

    TrainingError when a directory or a package is named that is not there.
    """
    if source.startswith(PACKAGE_PREFIX):
        return str(_package_directory(source))
    directory = Path(source).expanduser()
    if directory.is_dir():
        return str(directory)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise TrainingError(
            f"there is no directory {source}; give the directory of a Hugging Face checkpoint "
            "(config.json and weights), a hub id, or package:NAME/SUBDIRECTORY"
        )
    return source


def load_config(source: str, *, part: str) -> Any:
    """Read the configuration; part is "vision" or "text", chosen where a model holds both.

    TrainingError when the source cannot be read.
    """
    with _quiet(), _translated(source):
        config = AutoConfig.from_pretrained(locate(source))
    return getattr(config, f"{part}_config", config)


def load_model(source: str, config: Any) -> Pretrained:
    """Load the weights that `config` asks for. TrainingError when they cannot be read."""
    with _quiet(), _translated(source):
        model, report = AutoModel.from_pretrained(
            locate(source), config=config, output_loading_info=True
        )
    parameters = {name for name, _ in model.named_parameters()}
    return Pretrained(model.float().eval(), frozenset(parameters & set(report["missing_keys"])))


def find_file(source: str, name: str) -> Path | None:
    """Find a file beside the weights, fetched if need be; None when the source has none."""
    with _quiet(), _translated(source):
        found = cached_file(
            locate(source),
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return Path(found) if found else None


def read_json(source: str, name: str) -> dict[str, Any] | None:
    """Read a JSON object beside the weights; None when the source has no such file."""
    path = find_file(source, name)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} is no readable JSON ({error}); repair or refetch it"
        ) from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path} holds {type(content).__name__}; it must hold a JSON object")
    return content


def tokenizer_file(source: str) -> Path:
    """Find `tokenizer.json`; an older vocabulary is converted once into the cache directory.

    TrainingError when the source has no tokenizer that has such a form.
    """
    found = find_file(source, "tokenizer.json")
    if found:
        return found
    with _quiet(), _translated(source):
        tokenizer = AutoTokenizer.from_pretrained(locate(source), use_fast=True)
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:
        raise TrainingError(f"{source} has no tokenizer.json and none can be made; choose another")
    path = cache_dir() / "tokenizers" / f"{source.strip('/').replace('/', '--')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    core.save(str(path))
    return path


def _package_directory(source: str) -> Path:
    package, _, below = source.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    roots = list(spec.submodule_search_locations or ()) if spec else []
    if not roots:
        raise TrainingError(
            f"{source}: no package {package!r} is installed; "
            f"install it with: pip install {package.replace('_', '-')}"
        )
    directory = Path(roots[0], below)
    if not directory.is_dir():
        raise TrainingError(
            f"{source}: the package {package!r} has no directory {below!r}; name one that it has"
        )
    return directory


@contextmanager
def _translated(source: str) -> Iterator[None]:
    """Turn whatever the loaders raise (OSError, ValueError, RuntimeError...) into TrainingError."""
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainingError(
            f"cannot load {source!r} ({first_line}); without a network, give a local directory "
            "that holds config.json, the weights and tokenizer.json or preprocessor_config.json"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loaders' reports and progress bars; what matters is checked by the callers."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
