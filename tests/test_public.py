"""The names that others may rely on, and how little asking for the package costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import miniclip
from miniclip.bundle import Bundle
from tests.tiny_bundle import COLOURS

PUBLIC = [
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


def test_the_public_names_are_these() -> None:
    """Changing this list is changing the product; say so in the changelog."""
    assert miniclip.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(miniclip))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_loads_and_is_documented(name: str) -> None:
    value = getattr(miniclip, name)
    assert value.__name__ == name
    assert value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(miniclip.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: f"{node.module}"
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"miniclip.{place}" for name, place in miniclip._MODULE_OF.items()}
    assert sorted(seen) == PUBLIC


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        miniclip.nonsense  # noqa: B018


def test_the_package_alone_loads_nothing_but_itself() -> None:
    code = "import sys; old = set(sys.modules); import miniclip; print({*sys.modules} - old)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = ast.literal_eval(shown.stdout)
    assert {name for name in loaded if name.partition(".")[0] == "miniclip"} == {"miniclip"}
    assert not loaded & {"numpy", "PIL", "tokenizers", "onnxruntime", "torch"}


def test_the_shortest_program_works(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for word, colour in COLOURS.items():
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{word}.png")
    encoder = miniclip.load_encoder(tiny_bundle.directory)
    photos = map(miniclip.ImageSource.of, miniclip.find_images([tmp_path]))
    found = miniclip.embed_all(encoder, photos)
    (query,) = encoder.encode_texts(["a photo of a blue square"])
    assert found.names[(found.embeddings @ query).argmax()].endswith("blue.png")
