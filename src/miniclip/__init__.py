"""Search, name and classify images with words.

The public names are below; each loads its module when it is first asked for, so that
`import miniclip` itself is immediate. It defines nothing of its own.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from miniclip.bundle import Bundle
    from miniclip.classifier import Classifier
    from miniclip.collection import Index
    from miniclip.datasets.captions import read_captions
    from miniclip.embed import embed_all, embed_stream
    from miniclip.encoder import Encoder
    from miniclip.errors import MiniClipError
    from miniclip.images import ImageSource
    from miniclip.index.scan import find_images
    from miniclip.onnx_encoder import OnnxEncoder
    from miniclip.runtimes import load_encoder
    from miniclip.zeroshot import class_vectors, probabilities

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "Classifier",
    "Encoder",
    "ImageSource",
    "Index",
    "MiniClipError",
    "OnnxEncoder",
    "class_vectors",
    "embed_all",
    "embed_stream",
    "find_images",
    "load_encoder",
    "probabilities",
    "read_captions",
]

_MODULE_OF = {
    "Bundle": "bundle",
    "Classifier": "classifier",
    "Encoder": "encoder",
    "ImageSource": "images",
    "Index": "collection",
    "MiniClipError": "errors",
    "OnnxEncoder": "onnx_encoder",
    "class_vectors": "zeroshot",
    "embed_all": "embed",
    "embed_stream": "embed",
    "find_images": "index.scan",
    "load_encoder": "runtimes",
    "probabilities": "zeroshot",
    "read_captions": "datasets.captions",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
