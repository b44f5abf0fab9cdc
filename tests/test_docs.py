"""README and docs: their blocks run, their links lead somewhere, what is generated is fresh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from itertools import chain, zip_longest
from pathlib import Path

import pytest

from miniclip.bundle import DEFAULT_NAME, SHIPPED, Bundle, is_bundle
from miniclip.evaluate.matrix_config import MatrixConfig, read_matrix

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
VERBS = (
    *("demo", "search", "match", "index", "map", "duplicates", "classify", "fit", "predict"),
    *("transfer", "train", "export", "pull", "quantize", "share", "models", "evaluate", "embed"),
    "audit",
    "copy",
    "serve",
    "robustness",
    "explain",
)
RUN = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
HAS_MODEL = is_bundle(SHIPPED / DEFAULT_NAME)
NOT_RUN = {"cli.md", "architecture.md"}  # generated help; signatures
RUNNABLE = [
    page for page in PAGES if page.name not in NOT_RUN and RUN.search(page.read_text("utf-8"))
]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_and_print_what_it_shows(
    page: Path, tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page is one session. Until a model ships, the tiny one shows that the commands exist."""
    pytest.importorskip("skimage")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if not HAS_MODEL:
        monkeypatch.setenv("MINICLIP_BUNDLE", str(tiny_bundle.directory))
    for kind, block in RUN.findall(page.read_text("utf-8")):
        for command, shown in steps(block) if kind == "console" else [(block, [])]:
            words = ["bash", "-c", command] if kind == "console" else [sys.executable, "-c", block]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            if shown and HAS_MODEL:
                assert same(shown, done.stdout.splitlines()), f"{command}\nprints\n{done.stdout}"


def steps(block: str) -> list[tuple[str, list[str]]]:
    """Commands after "$ ", each with the lines that the page shows for it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and line.strip():
            found[-1][1].append(line)
    return found


def same(shown: list[str], printed: list[str]) -> bool:
    """Compare words exactly and numbers to 0.02, as scores differ a little between machines."""
    pairs = list(zip_longest(shown, filter(str.strip, printed), fillvalue=""))
    return all(
        NUMBER.sub("#", one) == NUMBER.sub("#", other)
        and all(
            abs(float(a) - float(b)) <= 0.02
            for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
        )
        for one, other in pairs
    )


def test_the_comparison_sees_words_numbers_and_missing_lines() -> None:
    assert same([" 0.31  a.jpg"], [" 0.32  a.jpg", ""])
    assert not same([" 0.31  a.jpg"], [" 0.41  a.jpg"])
    assert not same([" 0.31  a.jpg"], [" 0.31  b.jpg"])
    assert not same([" 0.31  a.jpg"], [" 0.31  a.jpg", " 0.30  b.jpg"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))

    assert [
        target
        for target in targets
        if not target.startswith("http") and not (page.parent / target).exists()
    ] == []


@pytest.mark.train
def test_the_recipe_in_the_docs_is_one(tmp_path: Path) -> None:
    config = pytest.importorskip("miniclip.train.config")
    page = (ROOT / "docs" / "train.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "recipe.toml").write_text(block, "utf-8")

    overrides = re.findall(r"--set ([a-z_.]+=\S+)", page)
    recipe = config.read_recipe(tmp_path / "recipe.toml", overrides)

    assert (recipe.train.batch, recipe.loss.name) == (128, "sigmoid")


def test_the_matrix_in_the_docs_is_one_and_says_the_defaults(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "evaluate.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "matrix.toml").write_text(block, "utf-8")

    config = read_matrix(tmp_path / "matrix.toml")

    plain = MatrixConfig(config.bundles, config.data, zeroshot=config.zeroshot)
    assert config == plain
    assert {entry.kind for entry in config.data} == {"captioned", "labelled", "judged"}


def test_every_verb_has_a_page_and_the_readme_links_to_it() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")

    for verb in VERBS:
        assert (ROOT / "docs" / f"{verb}.md").read_text("utf-8").startswith(f"# miniclip {verb}\n")
        assert f"(docs/{verb}.md)" in readme


def test_sentence_install_session_and_verbs_stand_on_the_first_screen() -> None:
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()[:40]
    text = "\n".join(lines)

    assert "pip install" in text
    assert "$ miniclip search" in text
    assert all(f"`{verb}`" in text for verb in VERBS)


def test_the_page_of_all_options_is_fresh() -> None:
    words = ["-m", "typer", "miniclip.cli.app", "utils", "docs", "--name", "miniclip", "--title"]

    fresh = subprocess.run(
        [sys.executable, *words, "The command line"], capture_output=True, text=True, check=True
    ).stdout

    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert page.strip() == fresh.strip(), "run: make docs"


def test_every_dependency_has_its_reason_and_no_other_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]

    reasons = (ROOT / "docs" / "dependencies.md").read_text("utf-8")

    rows = [line.strip("| ").split(" | ") for line in reasons.splitlines() if line[:2] == "| "]
    always = [row[0] for row in rows if len(row) == 2 and row[0] != "package"]
    optional = [(row[0], row[1]) for row in rows if len(row) == 3 and row[0] != "extra"]
    assert sorted(always) == sorted(map(package, project["dependencies"]))
    assert sorted(optional) == sorted(
        (extra, package(line)) for extra, lines in extras.items() for line in lines
    )


def test_make_installs_pinned_versions_of_all_of_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    lines += (ROOT / "recipes" / "requirements.txt").read_text("utf-8").splitlines()
    wanted = {package(line) for line in lines if line and not line.startswith("#")}

    pinned = (ROOT / "constraints.txt").read_text("utf-8")

    assert wanted == set(re.findall(r"^([\w.-]+)==", pinned, re.MULTILINE))
    assert "torch==2.13.0" in pinned


def package(requirement: str) -> str:
    """Return the name without version bounds and extras."""
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower()
