"""A recipe means what its author wrote, or is refused with the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miniclip.errors import ConfigError
from miniclip.train.config import (
    differing_keys,
    read_recipe,
    recipe_from_dict,
    recipe_to_json,
)
from miniclip.train.recipe import Recipe

pytestmark = pytest.mark.train

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
SMALL = """
name = "small"
[data]
captions = "captions.txt"
dev_split = "dev.txt"
[image]
tower = "efficientnet-lite0"
[text]
tower = "bert"
[train]
passes = 3
"""


@pytest.fixture(autouse=True)
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINICLIP_DATA", raising=False)


def read(tmp_path: Path, text: str = SMALL, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return read_recipe(path, overrides)


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    assert recipe.train.passes == 3.0
    assert isinstance(recipe.train.passes, float)  # an int is fine where a float is meant
    assert recipe.train.batch == 256
    assert recipe.views.crop == (0.4, 1.0)
    assert recipe.image.side is None


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_product_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe_from_dict(json.loads(recipe_to_json(recipe))) == recipe
    header = path.read_text().split("\n\n")[0]
    assert f"miniclip train recipes/{path.name}" in path.read_text()
    for fact in ("machine", "wall time", "dev recall", "commit"):
        assert f"# {fact}:" in path.read_text(), f"{fact} is missing in {header}"


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("train.batch=64", ("train", "batch"), 64),
        ("train.rates.heads = 2e-3", ("train", "rates"), None),
        ('image.trainable="last:2"', ("image", "trainable"), "last:2"),
        ("image.trainable=last:2", ("image", "trainable"), "last:2"),
        ("views.crop=[0.5, 0.9]", ("views", "crop"), (0.5, 0.9)),
        ("views.flip=false", ("views", "flip"), False),
        ('class_names.templates=["a {}.", "{}"]', ("class_names", "templates"), ("a {}.", "{}")),
        ("seed=7", ("seed",), 7),
    ],
)
def test_an_override_is_a_toml_value_or_a_bare_string(
    override: str, place: tuple[str, ...], value: object, tmp_path: Path
) -> None:
    found: object = read(tmp_path, SMALL, override)
    for name in place:
        found = getattr(found, name)
    if value is None:
        assert getattr(found, "heads") == 2e-3  # noqa: B009 - found is any section
        assert getattr(found, "text_tower") == 5e-5  # noqa: B009 - the others stay
    else:
        assert found == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.bacth=64", r"unknown key train\.bacth; did you mean train\.batch\?"),
        ("trian.batch=64", r"unknown key trian; did you mean train\?"),
        ("image.head.hiden=3", r"did you mean image\.head\.hidden\?"),
        ("loss.qqqq=1", r"unknown key loss\.qqqq; choose one of name, embedding"),
        ('train.batch="64"', r"train\.batch is '64' of type str, but must be int"),
        ("train.batch=64.0", r"train\.batch is 64\.0 of type float, but must be int"),
        ("train.batch=true", "of type bool, but must be int"),
        ("train.batch=1", r"train\.batch is 1; give at least 2"),
        ("loss.name=hinge", r"loss\.name is 'hinge'; choose one of infonce, sigmoid"),
        ("views.crop=[0.5]", r"views\.crop has 1 values, but must have 2"),
        ("views.crop=0.5", r"views\.crop is 0\.5, but must be a list"),
        ("views.crop=[0.9, 0.5]", "two rising shares"),
        ("train=3", "train is 3, but must be a section"),
        ("name.first=1", "cannot be set, for name is no section"),
        ("just words", "is no KEY=VALUE"),
        ("=3", "is no KEY=VALUE"),
        ("machine.devices=3", "256 cannot be divided among 3 devices"),
        ("class_names.templates=['no slot']", "no slot"),
        ("train.passes=nan", "above 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, SMALL, override)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not say data\.captions"):
        read(tmp_path, SMALL.replace('captions = "captions.txt"\n', ""))
    with pytest.raises(ConfigError, match="names no dev set"):
        read(tmp_path, SMALL.replace('dev_split = "dev.txt"\n', ""))
    with pytest.raises(ConfigError, match="is no TOML"):
        read(tmp_path, "name = ")
    with pytest.raises(ConfigError, match="cannot read the recipe"):
        read_recipe(tmp_path / "nowhere.toml")


def test_the_data_root_comes_from_override_environment_or_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read(tmp_path, SMALL.replace("[data]", '[data]\nroot = "in-file"'))
    assert recipe.data.path("a/b.txt") == Path("in-file/a/b.txt")
    monkeypatch.setenv("MINICLIP_DATA", "/from/environment")
    assert read(tmp_path).data.path("a/b.txt") == Path("/from/environment/a/b.txt")
    assert read(tmp_path, SMALL, "data.root=set").data.path("a.txt") == Path("set/a.txt")
    assert read(tmp_path).data.path("/absolute.txt") == Path("/absolute.txt")


def test_only_what_changes_learning_counts_as_a_difference(tmp_path: Path) -> None:
    one = read(tmp_path)
    moved = read(tmp_path, SMALL, "data.root=elsewhere", "machine.threads=4")
    assert differing_keys(one, moved) == []
    other = read(tmp_path, SMALL, "seed=1", "train.rates.heads=0.1", "views.crop=[0.1, 0.2]")
    assert differing_keys(one, other) == ["train.rates.heads", "views.crop", "seed"]
