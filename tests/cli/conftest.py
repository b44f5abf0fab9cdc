"""How the tests talk to the command line: in this process, or as a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from miniclip.bundle import Bundle
from miniclip.cli import main
from tests.tiny_bundle import COLOURS


@dataclass(frozen=True)
class Outcome:
    """What a call left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Cli:
    """Call `miniclip` in this process, with the tiny bundle as the default model."""
    monkeypatch.setenv("MINICLIP_BUNDLE", str(tiny_bundle.directory))

    def call(*arguments: object) -> Outcome:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["miniclip", *words])
        with pytest.raises(SystemExit) as ended:
            main(words)
        code = ended.value.code
        out, err = capfd.readouterr()
        return Outcome(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Make a folder with one photo per colour of the tiny bundle."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 30), colour).save(folder / f"{name}.png")
    return folder
