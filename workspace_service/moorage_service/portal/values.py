"""Values of a notebook's parameters as fields of a form, and back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from moorage.wire import Parameter
from moorage_service.errors import BadRequest

_TRUE, _FALSE = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


def to_text(parameter: Parameter) -> str:
    """What the field holds at first: the default."""
    value = parameter.default
    if value is None:
        return ""
    return value if isinstance(value, str) and parameter.type in ("str", "any") else json.dumps(value)


def changed(parameters: Iterable[Parameter], fields: Mapping[str, str]) -> dict[str, Any]:
    """The values that differ from the defaults. Fields left as they were, or empty, keep the default."""
    found: dict[str, Any] = {}
    for parameter in parameters:
        text = fields.get(parameter.name, "")
        if text.strip() and text != to_text(parameter):
            found[parameter.name] = read(parameter, text)
    return found


def read(parameter: Parameter, text: str) -> Any:
    """The text as the parameter's type. Raises BadRequest naming the parameter."""
    match parameter.type:
        case "str":
            return text
        case "bool":
            if text.strip().lower() not in _TRUE + _FALSE:
                raise _bad(parameter, text, "Write true or false.")
            return text.strip().lower() in _TRUE
        case "int" | "float" as kind:
            try:
                return int(text) if kind == "int" else float(text)
            except ValueError:
                remedy = "Write a whole number." if kind == "int" else "Write a number such as 0.5."
                raise _bad(parameter, text, remedy) from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if parameter.type == "any":
            return text
        example = "[1, 2]" if parameter.type == "list" else '{"a": 1}'
        raise _bad(parameter, text, f"Write it as JSON, such as {example}.") from None


def _bad(parameter: Parameter, text: str, remedy: str) -> BadRequest:
    return BadRequest(
        f"{parameter.name}: {text.strip()[:60]!r} is not of type {parameter.type}. {remedy}", field=parameter.name
    )
