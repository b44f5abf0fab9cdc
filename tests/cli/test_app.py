"""The command as a whole: help, version, exit codes, and how little it loads to answer."""

from __future__ import annotations

import subprocess
import sys
import time
from io import StringIO

import pytest

from miniclip import __version__
from miniclip.cli.output import progress_bar
from tests.cli.conftest import Cli

VERBS = (
    *("demo", "search", "match", "index", "map", "duplicates", "classify", "fit", "predict"),
    *("transfer", "train", "export", "pull", "quantize", "share", "models", "evaluate", "embed"),
    "audit",
    "copy",
    "serve",
    "robustness",
    "explain",
)
HEAVY = ("torch", "onnxruntime", "transformers", "numpy", "PIL", "jinja2", "rich", "fastapi")


def test_help_names_every_verb(cli: Cli) -> None:
    result = cli("--help")

    assert result.code == 0
    listed = [line.split()[0] for line in result.out.split("Commands:")[1].splitlines() if line]
    assert sorted(listed) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_speaks_json(cli: Cli, verb: str) -> None:
    words = {"evaluate": ["evaluate", "retrieval"], "audit": ["audit", "groups"]}.get(verb, [verb])

    result = cli(*words, "--help")

    assert result.code == 0
    assert "--json" in result.out


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli("--version").out == f"miniclip {__version__}\n"


@pytest.mark.parametrize("words", [["nonsense"], ["search"], ["search", "a", "b", "--top", "0"]])
def test_misuse_exits_with_2_and_an_empty_stdout(cli: Cli, words: list[str]) -> None:
    result = cli(*words)

    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err


class Terminal(StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (StringIO(), False)])
def test_progress_is_drawn_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stream: StringIO,
    shown: bool,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)

    with progress_bar("embedding", 4) as progress:
        progress(4)

    assert ("embedding" in stream.getvalue()) is shown
    assert capsys.readouterr().out == ""


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from miniclip.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )

    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "limit_seconds"),
    [(["-m", "miniclip", "--help"], 0.3), (["-c", "import miniclip"], 0.15)],
)
def test_help_and_import_are_immediate(words: list[str], limit_seconds: float) -> None:
    """The best of five, because the machine may be busy; the interpreter's start is included."""

    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < limit_seconds
