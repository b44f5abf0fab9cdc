"""The error tree. It defines names only; messages are written where the mistake is seen.

MiniClipError
├── BundleError        a model directory that is missing, altered or contradictory
├── ClusterError       computers that were to help and do not
├── ConfigError        a setting, recipe or argument with an unusable value
├── DatasetError       captions, splits or class folders that cannot be read as a whole
├── ExportError        a trained model that does not survive the way to ONNX
├── ImageError         one image that cannot be decoded; collections skip it by name
├── MissingExtraError  a feature whose optional packages are not installed
├── StoreError         a cache or index that cannot be read or written
├── TokenizerError     a tokenizer file that cannot be used
└── TrainingError      a run that cannot start, resume or go on

Every message says what is wrong, which value, and the cure.
"""

from __future__ import annotations


class MiniClipError(Exception):
    """Anything that this package refuses; the parent of every error below."""


class BundleError(MiniClipError):
    """A model directory that is missing, altered or contradictory."""


class ClusterError(MiniClipError):
    """Computers that were to help and do not."""


class ConfigError(MiniClipError):
    """A setting, recipe or argument with an unusable value."""


class DatasetError(MiniClipError):
    """Captions, splits or class folders that cannot be read as a whole."""


class ExportError(MiniClipError):
    """A trained model that does not survive the way to ONNX."""


class ImageError(MiniClipError):
    """One image that cannot be decoded."""


class MissingExtraError(MiniClipError):
    """A feature whose optional packages are not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the optional packages of miniclip[{extra}]; "
            f"install them with: pip install 'miniclip[{extra}]'"
        )


class StoreError(MiniClipError):
    """A cache or index that cannot be read or written."""


class TokenizerError(MiniClipError):
    """A tokenizer file that cannot be used."""


class TrainingError(MiniClipError):
    """A training run that cannot start, resume or go on."""
