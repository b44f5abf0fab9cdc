"""Where data and caches live, and what happens when they cannot."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from miniclip.errors import StoreError
from miniclip.home import cache_dir, data_dir


def test_one_variable_moves_everything(home: Path) -> None:
    assert data_dir() == home
    assert cache_dir() == home / "cache"
    assert cache_dir().is_dir()


def test_asking_without_making_makes_nothing(home: Path) -> None:
    data_dir(create=False)
    cache_dir(create=False)
    assert not home.exists()


def test_a_relative_or_tilde_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINICLIP_HOME", "~/elsewhere")
    assert data_dir(create=False) == Path.home() / "elsewhere"
    monkeypatch.setenv("MINICLIP_HOME", "here")
    assert data_dir(create=False) == Path.cwd() / "here"


@pytest.mark.parametrize("value", [None, ""])
def test_without_the_variable_the_system_decides(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("MINICLIP_HOME")
    else:
        monkeypatch.setenv("MINICLIP_HOME", value)
    assert data_dir(create=False) == platformdirs.user_data_path("miniclip", appauthor=False)
    assert cache_dir(create=False) == platformdirs.user_cache_path("miniclip", appauthor=False)


def test_a_place_that_cannot_be_made_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINICLIP_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"file.*set MINICLIP_HOME"):
        cache_dir()
