"""The house rules that a machine can see, read off the source and the drawing of the floors.

The drawing in docs/architecture.md is the table: there is no second one that could disagree. Each
rule is a function from modules to complaints; every rule is also shown a source that breaks it.
"""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

import miniclip
from tests.source_tree import Import, Module, imports_of, read_modules

PACKAGE = Path(miniclip.__file__).parent
DRAWING = Path(__file__).parents[1] / "docs" / "architecture.md"

TRAINING = {
    "torch",
    "lightning",
    "transformers",
    "onnx",
    "onnxscript",
    "torchvision",
    "tensorboard",
}
WEB = {"fastapi", "starlette", "uvicorn", "gradio", "flask", "aiohttp", "streamlit"}
# Foreign package -> the only places that may import it.
HOMES_OF = {
    "onnxruntime": ("onnx_encoder.py", "quantize/"),
    "openvino": ("openvino_encoder.py",),
    "ray": ("cluster.py",),
    **dict.fromkeys(("grpc", "milvus_lite", "pymilvus"), ("index/milvus_connection.py",)),
    "gradio": ("serve/pages/",),
    "huggingface_hub": ("pull/hub.py",),
    **dict.fromkeys(TRAINING, ("train/",)),
    **dict.fromkeys(WEB - {"gradio"}, ("serve/",)),
    "httpx": ("client.py",),
    "onnx": ("train/", "pull/", "share/", "quantize/"),
}
CODE_ON_LOAD = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
ENDS_OR_PRINTS = {"print", "exit", "quit", "sys.exit", "os._exit", "os.abort", "SystemExit"}
NAMES_OF_NOTHING = {"utils", "util", "helpers", "common", "misc"}

Modules = Mapping[str, Module]
Rule = Callable[[Modules], list[str]]


def read_drawing(text: str) -> dict[str, int]:
    """Place ("bundle.py", "index/") -> floor, from the fenced drawing under "The floors".

    A part of a package on a higher floor than the rest is drawn above it: the first line counts.
    """
    block = text.split("## The floors")[1].split("```")[1]
    floors: dict[str, int] = {}
    floor = 0
    for line in block.strip("\n").splitlines():
        drawn = re.match(r"(\d| ) (\w+(?:/\w+)*(?:\.py|/)) ", line)
        assert drawn, f"cannot read this line of the drawing: {line!r}"
        floor = int(drawn[1]) if drawn[1] != " " else floor
        assert drawn[2] not in floors, f"{drawn[2]} is drawn twice"
        floors[drawn[2]] = floor
    return floors


FLOORS = read_drawing(DRAWING.read_text(encoding="utf-8"))


def stands_in(module: Module, place: str) -> bool:
    return module.place.startswith(place) if place.endswith("/") else module.place == place


def floor_of(module: Module) -> int | None:
    return next((floor for place, floor in FLOORS.items() if stands_in(module, place)), None)


def own_imports(module: Module, modules: Modules) -> Iterable[Import]:
    return (entry for entry in imports_of(module, set(modules)) if entry.package == "miniclip")


# The rules


def stands_on_no_floor(modules: Modules) -> list[str]:
    return [module.place for module in modules.values() if floor_of(module) is None]


def imports_upwards(modules: Modules) -> list[str]:
    """Lazy imports and those for type checkers count like any other."""
    return [
        f"{module.place}:{entry.line} imports {entry.module}"
        for module in modules.values()
        for entry in own_imports(module, modules)
        if entry.module not in modules
        or (floor_of(modules[entry.module]) or 0) > (floor_of(module) or 0)
    ]


def imports_in_a_circle(modules: Modules) -> list[str]:
    graph = {
        name: {
            entry.module
            for entry in own_imports(module, modules)
            if not entry.lazy and not entry.typing and entry.module != name
        }
        for name, module in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def imports_what_belongs_elsewhere(modules: Modules) -> list[str]:
    return [
        f"{module.place}:{entry.line} imports {entry.module}; only {HOMES_OF[entry.package]} may"
        for module in modules.values()
        for entry in imports_of(module, set(modules))
        if entry.package in HOMES_OF
        and not any(stands_in(module, place) for place in HOMES_OF[entry.package])
    ]


def loads_training_before_it_is_asked_to(modules: Modules) -> list[str]:
    return [
        f"{module.place}:{entry.line} imports {entry.module} outside a function"
        for module in modules.values()
        if not stands_in(module, "train/")
        for entry in own_imports(module, modules)
        if f"{entry.module}.".startswith("miniclip.train.") and not (entry.lazy or entry.typing)
    ]


def prints_or_exits(modules: Modules) -> list[str]:
    return [
        f"{module.place}:{line} calls {call}"
        for module in modules.values()
        if not stands_in(module, "cli/")
        for call, line in module.calls()
        if call in ENDS_OR_PRINTS
    ]


def could_run_code_on_load(modules: Modules) -> list[str]:
    return [
        f"{module.place}:{entry.line} imports {entry.module}"
        for module in modules.values()
        for entry in imports_of(module, set(modules))
        if entry.package in CODE_ON_LOAD
    ]


def is_too_long(modules: Modules) -> list[str]:
    files = [
        f"{module.place} has {lines} lines"
        for module in modules.values()
        if (lines := len(module.text.splitlines())) > 400
    ]
    functions = [
        f"{module.place}:{function.lineno} {function.name} has {lines} lines"
        for module in modules.values()
        for function in module.functions()
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > 80
    ]
    return files + functions


def says_not_what_it_is(modules: Modules) -> list[str]:
    return [
        module.place
        for module in modules.values()
        if not ast.get_docstring(module.tree) or Path(module.place).stem in NAMES_OF_NOTHING
    ]


RULES: dict[Rule, tuple[str, str]] = {
    # rule -> (place, source that breaks it)
    stands_on_no_floor: ("attic.py", ""),
    imports_upwards: ("images.py", "def f():\n from miniclip.bundle import Bundle"),
    imports_in_a_circle: ("errors.py", "from miniclip import arrays"),
    imports_what_belongs_elsewhere: ("embed.py", "def f():\n import onnxruntime as ort"),
    loads_training_before_it_is_asked_to: ("cli/train.py", "import miniclip.train.loop"),
    prints_or_exits: ("bundle.py", "import sys\ndef f():\n sys.exit(1)"),
    could_run_code_on_load: ("train/loop.py", "from pickle import loads"),
    is_too_long: ("home.py", "def f():\n" + " x = 1\n" * 80),
    says_not_what_it_is: ("arrays.py", "x = 1"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_module(rule: Rule) -> None:
    assert rule(read_modules(PACKAGE)) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_sees(rule: Rule, tmp_path: Path) -> None:
    sound = {
        "__init__.py": '"""Door."""',
        "errors.py": '"""Errors."""',
        "arrays.py": '"""Arrays."""\nfrom miniclip.errors import MiniClipError',
        "bundle.py": '"""Bundle."""\nfrom . import errors, arrays',
        "train/__init__.py": '"""Training."""\nimport torch',
        "train/loop.py": '"""Loop."""\nfrom ..bundle import Bundle',
        "cli/train.py": '"""Verb."""\ndef train():\n import miniclip.train.loop\n print(1)',
    }
    package = tmp_path / "miniclip"
    for place, source in sound.items():
        (package / place).parent.mkdir(parents=True, exist_ok=True)
        (package / place).write_text(source)
    assert rule(read_modules(package)) == []
    place, source = RULES[rule]
    (package / place).write_text(source)
    (complaint,) = rule(read_modules(package))
    assert place in complaint or place.removesuffix(".py") in complaint


def test_everything_drawn_exists() -> None:
    modules = read_modules(PACKAGE).values()
    assert [
        place for place in FLOORS if not any(stands_in(module, place) for module in modules)
    ] == []


# What is loaded, as opposed to what is written


def loaded_by(code: str) -> set[str]:
    """Top-level packages in sys.modules after running `code` in a fresh interpreter."""
    report = "import json, sys; print('\\n' + json.dumps(list(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(shown.stdout.splitlines()[-1])}


HELP = """
try:
    from miniclip.cli import main
    main({arguments})
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    "code",
    ["import miniclip", HELP.format(arguments=["--help"]), HELP.format(arguments=["train", "-h"])],
    ids=["import miniclip", "miniclip --help", "miniclip train --help"],
)
def test_nothing_heavy_is_loaded_by(code: str) -> None:
    if "cli" in code and not (PACKAGE / "cli" / "app.py").exists():
        pytest.skip("there is no command line yet")
    loaded = loaded_by(code)
    assert "miniclip" in loaded
    assert not loaded & {"onnxruntime", "sklearn", "numpy", "pymilvus", "ray", *TRAINING, *WEB}


def test_the_check_above_would_see_it() -> None:
    assert "numpy" in loaded_by("import miniclip; miniclip.embed_all")
