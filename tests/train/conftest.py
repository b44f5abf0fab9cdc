"""What tests of whole runs share: one recipe, one cache of its features, and two finished runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.tiny_run import NO_DROPOUT, write_recipe


@pytest.fixture(scope="package")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests that do not alter the photos, so that features are computed once."""
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture
def shared_home(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a home of its own: one cache for all tests that ask for this."""
    monkeypatch.setenv("MINICLIP_HOME", str(recipe.parent / "home"))
    monkeypatch.delenv("MINICLIP_DATA", raising=False)


@pytest.fixture(scope="package")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once, undisturbed."""
    return _trained(recipe, (), tmp_path_factory.mktemp("unbroken") / "run")


@pytest.fixture(scope="package")
def without_dropout(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process on whole batches, to compare others with."""
    return _trained(recipe, NO_DROPOUT, tmp_path_factory.mktemp("plain") / "run")


def _trained(recipe: Path, overrides: tuple[str, ...], output: Path) -> Path:
    from miniclip.train.run import train  # noqa: PLC0415 -- torch, for those who ask for a run

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINICLIP_HOME", str(recipe.parent / "home"))
        train(recipe, overrides, output)
    return output
