"""JSON to the wire types and back, with the standard library alone.

`parse` reads tolerantly, for an old client must understand a newer service: unknown fields are ignored, a value that
a `Literal` or an enum does not list is kept as it came. `WireError` says what is wrong with data that cannot be read.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class WireError(ValueError):
    """The data does not have the shape of the type; the message names the field and the value."""


def parse(kind: type[T], data: object) -> T:
    """`data` (what `json.loads` gave) as `kind`: a wire type, or `list[...]` or `dict[str, ...]` of one.

    Raises WireError when a field without a default is missing or a value has another shape.
    """
    shape: Any = kind
    return typing.cast(T, _reader(shape)(data, shape.__name__ if isinstance(shape, type) else str(shape)))


def dump(value: object) -> Any:
    """A wire value as plain data for `json.dumps`. Fields that are None are left out: they have that default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: dump(part) for name, part in found.items() if part is not None}
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, dict):
        return {str(key): dump(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [dump(part) for part in value]
    return value


Reader = Callable[[object, str], object]


@functools.cache
def _reader(kind: Any) -> Reader:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return functools.partial(_read_plain, str if all(isinstance(a, str) for a in arguments) else object)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader(arguments)
    if origin is list:
        return functools.partial(_read_list, arguments[0])
    if origin is dict:
        return functools.partial(_read_dict, arguments[1])
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return functools.partial(_read_dataclass, kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return functools.partial(_read_enum, kind)
    if kind is Any or kind is object:
        return lambda data, _where: data
    if kind is float:
        return _read_float
    return functools.partial(_read_plain, kind)


def _optional_reader(arguments: tuple[Any, ...]) -> Reader:
    inner = [argument for argument in arguments if argument is not type(None)]
    if len(inner) != 1:
        raise TypeError(f"the wire knows `X | None` only, not a union of {arguments}")
    return lambda data, where: None if data is None else _reader(inner[0])(data, where)


def _read_list(item: Any, data: object, where: str) -> list[object]:
    if not isinstance(data, list):
        raise WireError(f"{where} should be a list, and is {_shown(data)}")
    read = _reader(item)
    return [read(part, f"{where}[{index}]") for index, part in enumerate(data)]


def _read_dict(item: Any, data: object, where: str) -> dict[str, object]:
    if not isinstance(data, dict):
        raise WireError(f"{where} should be an object, and is {_shown(data)}")
    read = _reader(item)
    return {str(key): read(part, f"{where}.{key}") for key, part in data.items()}


def _read_dataclass(kind: Any, data: object, where: str) -> object:
    if not isinstance(data, dict):
        raise WireError(f"{where} should be an object, and is {_shown(data)}")
    hints = _hints(kind)
    found: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        if field.name in data:
            found[field.name] = _reader(hints[field.name])(data[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise WireError(f"{where} lacks the field {field.name!r}")
    return kind(**found)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _read_enum(kind: type[E], data: object, where: str) -> E:
    if not isinstance(data, str):
        raise WireError(f"{where} should be text, and is {_shown(data)}")
    try:
        return kind(data)
    except ValueError:
        return _unlisted(kind, data)


def _unlisted(kind: type[E], value: str) -> E:
    """A member that this release does not know: it compares and shows as its text, and equals no known member."""
    member = str.__new__(kind, value)
    member._name_ = value.upper()
    member._value_ = value
    return member


def _read_float(data: object, where: str) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise WireError(f"{where} should be a number, and is {_shown(data)}")
    return float(data)


def _read_plain(kind: Any, data: object, where: str) -> object:
    wrong_bool = isinstance(data, bool) and kind is int
    if kind is int and isinstance(data, float) and data.is_integer():
        return int(data)
    if wrong_bool or not isinstance(data, kind):
        raise WireError(f"{where} should be {_NAMES.get(kind, str(kind))}, and is {_shown(data)}")
    return data


_NAMES = {str: "text", int: "a whole number", bool: "true or false"}


def _shown(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 60 else f"{text[:57]}..."
