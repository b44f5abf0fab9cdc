"""Patterns mean what they mean in a .gitignore; git itself is the oracle where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from miniclip.errors import ConfigError
from miniclip.index.ignore import IGNORE_FILE, Ignored
from miniclip.index.scan import find_images

FILES = (
    "a.jpg",
    "a.png",
    "drafts/b.jpg",
    "old/drafts/c.jpg",
    "old/keep.jpg",
    "old/deep/er/d.jpg",
    "raw_1/e.jpg",
    "raw_2/e.jpg",
    "spaß und so/f.jpg",
)
PATTERNS = (
    ["*.png"],
    ["drafts/"],
    ["/drafts/"],
    ["old/**/d.jpg"],
    ["old/*", "!old/keep.jpg"],
    ["old/", "!old/keep.jpg"],
    ["raw_[1]/"],
    ["# a comment", "", "spaß und so/"],
    ["*.jpg", "!a.jpg"],
    ["**/deep"],
)


def make(root: Path) -> Path:
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def kept(root: Path, ignored: Ignored) -> set[str]:
    return {path.relative_to(root).as_posix() for path in find_images([root], leave_out=ignored)}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@pytest.mark.parametrize("patterns", PATTERNS, ids=" ".join)
def test_what_is_left_out_is_what_git_leaves_out(tmp_path: Path, patterns: list[str]) -> None:
    root = make(tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / ".gitignore").write_text("\n".join(patterns), encoding="utf-8")
    words = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=root, check=True, capture_output=True).stdout
    seen_by_git = {name for name in listed.decode().split("\0") if name} - {".gitignore"}

    (root / IGNORE_FILE).write_text("\n".join(patterns), encoding="utf-8")

    assert kept(root, Ignored.of(root)) == seen_by_git
    assert len(seen_by_git) < len(FILES)


def test_the_command_line_comes_after_the_file(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / IGNORE_FILE).write_text("*.jpg")

    assert kept(root, Ignored.of(root, ["!a.jpg"])) == {"a.jpg", "a.png"}


def test_nothing_outside_the_root_is_left_out(tmp_path: Path) -> None:
    ignored = Ignored.of(tmp_path / "here", ["*"])

    assert not ignored(tmp_path / "there" / "a.jpg", False)
    assert ignored(tmp_path / "here" / "a.jpg", False)


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / IGNORE_FILE).write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match=r"\.miniclipignore.*UTF-8"):
        Ignored.of(tmp_path)


def test_a_pattern_without_a_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no meaning"):
        Ignored.of(tmp_path, ["!"])
