"""Python source as data: modules, and what each of them imports, when. It judges nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One imported module.

    module: its full dotted name; lazy: inside a function; typing: under `if TYPE_CHECKING`.
    """

    module: str
    line: int
    lazy: bool
    typing: bool

    @property
    def package(self) -> str:
        """The part before the first dot."""
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, its path within the package ("index/scan.py"), its text."""

    name: str
    place: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parse the text."""
        return ast.parse(self.text)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Find all functions, methods and nested ones included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def calls(self) -> Iterator[tuple[str, int]]:
        """Name every call as it is written, with its line: ("sys.exit", 12)."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node.lineno


def read_modules(root: Path) -> dict[str, Module]:
    """Read every module of the package at `root`, by dotted name."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        parts = [root.name, *place.with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules[name] = Module(name, place.as_posix(), path.read_text(encoding="utf-8"))
    return modules


def imports_of(module: Module, known: set[str]) -> list[Import]:
    """List all imports; `from a import b` means a.b where that is one of the `known` modules."""
    found: list[Import] = []

    def visit(node: ast.AST, *, lazy: bool, typing: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _targets(node, module, known):
                found.append(Import(name, node.lineno, lazy, typing))
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for statement in node.body:
                visit(statement, lazy=lazy, typing=True)
            for statement in node.orelse:
                visit(statement, lazy=lazy, typing=typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, lazy=lazy, typing=typing)

    visit(module.tree, lazy=False, typing=False)
    return found


def _targets(node: ast.Import | ast.ImportFrom, module: Module, known: set[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module.name.split(".")
        if not module.place.endswith("__init__.py"):
            package.pop()
        kept = package[: len(package) - node.level + 1]
        base = ".".join([*kept, *([node.module] if node.module else [])])
    submodules = [f"{base}.{alias.name}" for alias in node.names]
    return list(dict.fromkeys(name if name in known else base for name in submodules))
