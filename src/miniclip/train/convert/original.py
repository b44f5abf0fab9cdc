"""The original: a checkpoint's own processor, tokenizer and model, run by transformers.

It is the measure of what `convert` writes, and lends its modules to be traced. The one file of this
package that calls the library's loaders; it judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn
from transformers.utils import logging as transformers_logging

from miniclip.arrays import FloatArray, unit_rows
from miniclip.encoder import ImageVectors
from miniclip.errors import BundleError, ConfigError
from miniclip.pull.parity import ProbeVectors
from miniclip.pull.probes import PROBE_SENTENCES, probe_photos

OLDEST_VERSION = 5  # of transformers: before, its processors and outputs had other forms
PadsTo = Literal["longest", "max"]


class Misfit(NamedTuple):
    """Weights of the shape `found` where the configuration asks for `wanted`."""

    name: str
    found: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Loaded:
    """A model in float32 and eval mode, and how its weights met its modules.

    untrained: parameters that the checkpoint does not hold; unused: weights that no module took;
    misfits: weights of another shape than the configuration says.
    """

    model: nn.Module
    untrained: tuple[str, ...]
    unused: tuple[str, ...]
    misfits: tuple[Misfit, ...]


def load_config(directory: Path) -> Any:
    """Load what the library takes config.json to say. BundleError when it takes it for nonsense.

    ConfigError when the library is too old.
    """
    if int(transformers.__version__.split(".")[0]) < OLDEST_VERSION:
        raise ConfigError(
            f"transformers {transformers.__version__} is too old to convert checkpoints with; "
            f"update it with: pip install 'transformers>={OLDEST_VERSION}'"
        )
    with _quiet(), _translated(directory, "the config.json"):
        return transformers.AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )


def load_model(directory: Path, class_name: str) -> Loaded:
    """Load the weights. BundleError when they cannot be read."""
    with _quiet(), _translated(directory, "the weights", "num_stages and the lists of config.json"):
        model, report = getattr(transformers, class_name).from_pretrained(
            directory,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    misfits = sorted(
        Misfit(str(name), tuple(found), tuple(wanted))
        for name, found, wanted in report["mismatched_keys"]
    )
    return Loaded(
        model.float().eval().requires_grad_(False),
        untrained=tuple(sorted(set(report["missing_keys"]) - {misfit.name for misfit in misfits})),
        unused=tuple(sorted(report["unexpected_keys"])),
        misfits=tuple(misfits),
    )


def load_image_processor(directory: Path) -> Any:
    """Load the processor that works with Pillow. BundleError when it cannot be made."""
    with _quiet(), _translated(directory, "the image processor"):
        return transformers.AutoImageProcessor.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, backend="pil"
        )


def load_tokenizer(directory: Path) -> Any:
    """Load the tokenizer. BundleError when it cannot be made."""
    with _quiet(), _translated(directory, "the tokenizer", "tokenizer_class"):
        return transformers.AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )


@dataclass(frozen=True)
class Original:
    """A two-tower or image model as its library runs it.

    tokenizer: None for a model of images alone. pads, context_length: how it is asked for tokens.
    """

    model: Any
    image_processor: Any
    tokenizer: Any = None
    pads: PadsTo = "longest"
    context_length: int = 0

    def encode_images(self, photos: Sequence[Image.Image]) -> ImageVectors:
        """Run photos one by one, to rows (N, D) as the model gives them and features (N, F)."""
        rows, features = [], []
        for photo in photos:
            inputs = self.image_processor(images=photo, return_tensors="pt")
            with torch.no_grad():
                rows.append(_pooled(self.model.get_image_features(**inputs)))
                features.append(_pooled(self.model.vision_model(**inputs)))
        return ImageVectors(np.concatenate(rows), np.concatenate(features))

    def encode_probes(self) -> ProbeVectors:
        """Run all probes."""
        images, features = self.encode_images(probe_photos())
        texts = None if self.tokenizer is None else unit_rows(self.encode_texts(PROBE_SENTENCES))
        return ProbeVectors(unit_rows(images), features, texts)

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of one text, padding included where the model was trained with it."""
        ids: list[int] = self._tokens(text)["input_ids"]
        return ids

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Run texts one by one, to rows (N, D) as the model gives them."""
        rows = []
        for text in texts:
            tokens = {key: torch.tensor([ids]) for key, ids in self._tokens(text).items()}
            with torch.no_grad():
                rows.append(_pooled(self.model.get_text_features(**tokens)))
        return np.concatenate(rows)

    def _tokens(self, text: str) -> dict[str, list[int]]:
        return dict(
            self.tokenizer(
                text,
                truncation=True,
                max_length=self.context_length,
                padding="max_length" if self.pads == "max" else False,
            )
        )


@dataclass(frozen=True)
class ImageOriginal(Original):
    """A model of images alone; tower: which of its outputs are the features, as one function."""

    tower: nn.Module = field(default_factory=nn.Identity)

    def encode_images(self, photos: Sequence[Image.Image]) -> ImageVectors:
        """Run photos one by one, to features (N, F), twice."""
        rows = []
        for photo in photos:
            pixels = self.image_processor(images=photo, return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                rows.append(self.tower(pixels).numpy())
        return ImageVectors(np.concatenate(rows), np.concatenate(rows))


def _pooled(output: Any) -> FloatArray:
    array: FloatArray = output.pooler_output.flatten(1).numpy()
    return array


@contextmanager
def _translated(directory: Path, what: str, suspects: str = "them") -> Iterator[None]:
    """Turn whatever the loaders raise into BundleError. suspects: keys that may be to blame."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BundleError(
            f"transformers cannot load {what} of {directory} ({reason[:300]}); "
            f"check {suspects}, complete the files, or choose another checkpoint"
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
