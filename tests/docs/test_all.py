"""Public means `__all__`: each module lists exactly what it defines, a package what it takes from its own modules."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

TYPE_PARAMETERS = {"ParamSpec", "TypeVar", "TypeVarTuple"}


def public_names(source: str, package: str | None) -> set[str]:
    """Top-level names without a leading underscore that a module defines, and that a package takes from its modules."""
    return {n for n in defined(ast.parse(source).body, package) if not n.startswith("_")}


def defined(body: list[ast.stmt], package: str | None) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if not is_type_parameter(node.value):
                yield from (n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name))
        elif isinstance(node, ast.ImportFrom) and package and is_inside(node, package):
            yield from (a.asname or a.name for a in node.names)
        elif isinstance(node, ast.If):
            yield from defined(node.body + node.orelse, package)
        elif isinstance(node, ast.Try):
            yield from defined(node.body + node.orelse + node.finalbody, package)


def is_type_parameter(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in TYPE_PARAMETERS


def is_inside(node: ast.ImportFrom, package: str) -> bool:
    name = node.module or ""
    return node.level > 0 or name == package or name.startswith(package + ".")


def test_all_is_exact(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin)
    names = public_names(path.read_text("utf-8"), module if path.name == "__init__.py" else None)
    listed = getattr(importlib.import_module(module), "__all__", None)
    assert listed is not None, f"{module} has no __all__; it defines {sorted(names)}"
    assert sorted(n for n in listed if not n.startswith("__")) == sorted(names)


def test_the_names_in_all_exist(module: str) -> None:
    imported = importlib.import_module(module)
    assert [n for n in imported.__all__ if not hasattr(imported, n)] == []


def test_public_names_are_told_from_the_rest() -> None:
    source = """
from atoll.here.part import Part, _hidden
from atoll.errors import explain
import os
T = TypeVar("T")
LIMIT: int = 3
Pair, _other = tuple, 0
class Thing: inside = 1
def work(): local = 1
if os.name:
    def chosen(): ...
"""
    assert public_names(source, None) == {"LIMIT", "Pair", "Thing", "chosen", "work"}
    assert public_names(source, "atoll.here") == {"LIMIT", "Pair", "Part", "Thing", "chosen", "work"}
