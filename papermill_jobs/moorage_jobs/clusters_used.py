"""Which kind of cluster a notebook attaches to, read from its code by `ast`: so that its runs get one without being
told.
"""

import ast
from collections.abc import Iterable, Iterator
from typing import get_args

from moorage.pycode import parsed
from moorage.wire.clusters import EngineName

_CALLS = {"attach", "sizing"}
_LIBRARIES: dict[str, EngineName] = {"ray": "ray", "distributed": "dask", "dask": "dask"}


def engine_used(cells: Iterable[str]) -> EngineName | None:
    """The engine of the first `moorage.attach(...)` or `moorage.sizing(...)`; None if the notebook has neither.

    Where the call names no engine, the first engine's library that the notebook imports decides, else ray.
    """
    trees = [tree for cell in cells if (tree := _parsed(cell)) is not None]
    named = [engine for tree in trees for engine in _named(tree)]
    if not named:
        return None
    imported = [engine for tree in trees for engine in _imported(tree)]
    chosen = [engine for engine in named if engine is not None] + imported
    return chosen[0] if chosen else "ray"


def _parsed(source: str) -> ast.Module | None:
    lines = ["pass" if line[:1] in {"%", "!", "?"} else line for line in source.splitlines()]
    try:
        return parsed("\n".join(lines))
    except SyntaxError:
        return None


def _named(tree: ast.Module) -> Iterator[EngineName | None]:
    """The engine of each call, None for a call that names none."""
    own = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "moorage"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        by_module = isinstance(function, ast.Attribute) and function.attr in _CALLS and _is_moorage(function.value)
        if by_module or (isinstance(function, ast.Name) and function.id in _CALLS & own):
            yield _engine_of(node)


def _is_moorage(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "moorage"


def _engine_of(call: ast.Call) -> EngineName | None:
    values = [keyword.value for keyword in call.keywords if keyword.arg == "engine"] + call.args[:1]
    for value in values:
        for engine in get_args(EngineName):
            if isinstance(value, ast.Constant) and value.value == engine:
                found: EngineName = engine
                return found
    return None


def _imported(tree: ast.Module) -> Iterator[EngineName]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            if (library := name.split(".")[0]) in _LIBRARIES:
                yield _LIBRARIES[library]
