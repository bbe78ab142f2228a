"""Parameters of a notebook: read from its `parameters` cell by `ast`, never by running it; checked before they are
used.
"""

import ast
import io
import math
import tokenize
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from moorage.pycode import parsed
from moorage.wire.jobs import Parameter, ParameterType
from moorage_jobs.errors import ParameterError

TAG = "parameters"
_NAMES: dict[str, ParameterType] = {name: name for name in get_args(ParameterType)}
_NAMES |= {"list": "list", "List": "list", "dict": "dict", "Dict": "dict", "Any": "any"}
_PYTHON: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}
_WORDS: dict[str, str] = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "dict": "an object of names and values",
}
_MAX_VALUE_DEPTH = 20
_MAX_INTEGER = 10**300  # Python refuses to write out much longer ones


def infer(notebook: Mapping[str, Any]) -> list[Parameter]:
    """The parameters of a notebook (nbformat 4, as parsed JSON), in the order in which its tagged cells assign them.

    Type: the annotation, else the literal's own type, else `any`. Help: the comment behind the assignment. A default
    that is no literal is computed when the notebook runs, and shown as none. A notebook without a tagged cell has no
    parameters.
    """
    found: dict[str, Parameter] = {}
    for cell in notebook.get("cells", []):
        tags = cell.get("metadata", {}).get("tags", [])
        if cell.get("cell_type") != "code" or not isinstance(tags, list) or TAG not in tags:
            continue
        source = cell.get("source", "")
        for parameter in infer_source(source if isinstance(source, str) else "".join(source)):
            found[parameter.name] = parameter
    return list(found.values())


def infer_source(source: str) -> list[Parameter]:
    """The parameters that one cell's source assigns; raises ParameterError where it is not Python."""
    plain = _without_magics(source)
    try:
        tree = parsed(plain)
    except SyntaxError as error:
        line = f" in line {error.lineno}" if error.lineno else ""
        raise ParameterError(
            f"The cell tagged '{TAG}' is not valid Python{line}: {error.msg}. Mend the cell, then promote again.",
            field=TAG,
        ) from None
    comments = _comments(plain)
    found: dict[str, Parameter] = {}
    for statement in tree.body:
        target, annotation, value = _assignment(statement)
        if target is None or target.startswith("_"):
            continue
        default = _literal(value)
        kind = _annotated(annotation) or _type_of(default)
        text = comments.get(statement.end_lineno or statement.lineno, "")
        found[target] = Parameter(name=target, type=kind, default=default, help=text)
    return list(found.values())


def validate(parameters: Iterable[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given values, checked: unknown names and wrong types are refused with a sentence. Missing names keep their
    defaults.
    """
    known = {parameter.name: parameter for parameter in parameters}
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none: tag a cell of the notebook 'parameters' to give it some"
            raise ParameterError(
                f"parameters: the notebook has no parameter '{name}'. It has: {names}.", field=f"parameters.{name}"
            )
        checked[name] = _checked(known[name], value)
    return checked


def with_defaults(parameters: Iterable[Parameter], given: Mapping[str, Any]) -> list[Parameter]:
    """The parameters with the given values as their new defaults (checked as `validate` does)."""
    listed = list(parameters)
    values = validate(listed, given)
    return [
        Parameter(name=one.name, type=one.type, default=values.get(one.name, one.default), help=one.help)
        for one in listed
    ]


def _checked(parameter: Parameter, value: Any) -> Any:
    where = f"parameters.{parameter.name}"
    if not _plain(value, _MAX_VALUE_DEPTH):
        raise ParameterError(
            f"{where}: {_shown(value)} is no finite JSON value. Give a text, number, list or object.", field=where
        )
    if parameter.type == "any" or (value is None and parameter.default is None):
        return value
    right = isinstance(value, _PYTHON[parameter.type])
    if isinstance(value, bool) and parameter.type != "bool":
        right = False
    if not right:
        raise ParameterError(
            f"{where}: {_shown(value)} is not {_WORDS[parameter.type]}. "
            f"The notebook declares '{parameter.name}' as {parameter.type}.",
            field=where,
        )
    return float(value) if parameter.type == "float" else value


def _plain(value: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(_plain(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _encodes(key) and _plain(item, depth - 1) for key, item in value.items())
    if isinstance(value, str):
        return _encodes(value)
    return value is None or (isinstance(value, int) and abs(value) < _MAX_INTEGER)


def _encodes(text: str) -> bool:
    """Whether it is whole text: half a surrogate pair has no encoding, so that no file, page or database takes it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists without end
        return "the value"


def _without_magics(source: str) -> str:
    """Blanks IPython's own lines (%magic, !shell, name?), so that the line numbers stay."""
    lines = source.splitlines()
    return "\n".join(
        "" if line.lstrip()[:1] in {"%", "!", "?"} or line.rstrip().endswith("?") else line for line in lines
    )


def _comments(source: str) -> dict[int, str]:
    """Line number -> the comment that ends it."""
    found: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                text = token.string.lstrip("#").strip()
                found[token.start[0]] = "" if text.startswith("type:") else text
    except (tokenize.TokenError, IndentationError):
        return {}
    return found


def _assignment(statement: ast.stmt) -> tuple[str | None, ast.expr | None, ast.expr | None]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.annotation, statement.value
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, None, statement.value
    return None, None, None


def _literal(value: ast.expr | None) -> Any:
    """The literal's value as JSON has it (tuples become lists), or None where it is no such literal."""
    if value is None:
        return None
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(found, tuple):
        found = list(found)
    return found if _plain(found, _MAX_VALUE_DEPTH) else None


def _annotated(annotation: ast.expr | None) -> ParameterType | None:
    """The type that an annotation names: `int`, `list[str]`, `int | None`, `Optional[int]`, or any of these as a
    string.
    """
    if annotation is None:
        return None
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            body = parsed(annotation.value).body
        except SyntaxError:
            return "any"
        return _annotated(body[0].value) if len(body) == 1 and isinstance(body[0], ast.Expr) else "any"
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        sides = [side for side in (annotation.left, annotation.right) if not _is_none(side)]
        return _annotated(sides[0]) if len(sides) == 1 else "any"
    if isinstance(annotation, ast.Subscript):
        name = _last_name(annotation.value)
        return _annotated(annotation.slice) if name == "Optional" else _NAMES.get(name, "any")
    return _NAMES.get(_last_name(annotation), "any")


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _type_of(value: Any) -> ParameterType:
    for kind in (bool, int, float, str, list, dict):  # bool first: it is an int, too
        if isinstance(value, kind):
            return _NAMES[kind.__name__]
    return "any"
