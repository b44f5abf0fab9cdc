"""What every test has: a home of its own, and a tiny bundle that really runs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from miniclip.bundle import Bundle
from tests.tiny_bundle import build_tiny_bundle


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's own bundles, caches and settings out of the tests."""
    home = tmp_path / "home"
    monkeypatch.setenv("MINICLIP_HOME", str(home))
    monkeypatch.delenv("MINICLIP_BUNDLE", raising=False)
    return home


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Build the bundle of colours (tests/tiny_bundle.py) once; do not alter it."""
    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session", autouse=True)
def _listen_to_ctrl_c() -> None:
    """Hear Ctrl-C, which some tests press: a shell starts background jobs deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
