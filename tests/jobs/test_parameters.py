"""Parameters are read by ast and checked with sentences."""

import math
from typing import Any

import pytest

from moorage.wire.jobs import Parameter
from moorage_jobs.errors import ParameterError
from moorage_jobs.parameters import infer, infer_source, validate, with_defaults

CELL = """\
import os
%matplotlib inline
a: int = 1
b = 2.5  # share of the data
c: "str" = 'x'
d = [1, 2]; ignored = None
e: dict[str, int] = {'k': 1}
g = True
h: int | None = None  # none: all rows
i = -3
home = os.getcwd()
_private = 1
"""


def found() -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in infer_source(CELL)}


def test_types_come_from_annotations_else_from_literals() -> None:
    types = {name: one.type for name, one in found().items()}
    assert types == {
        "a": "int", "b": "float", "c": "str", "d": "list", "ignored": "any", "e": "dict", "g": "bool", "h": "int", "i": "int",
        "home": "any",
    }  # fmt: skip


def test_defaults_and_help_are_read_and_nothing_is_executed() -> None:
    parameters = found()
    assert parameters["b"] == Parameter(name="b", type="float", default=2.5, help="share of the data")
    assert parameters["i"].default == -3
    assert parameters["g"].default is True
    assert parameters["home"].default is None
    assert parameters["h"].help == "none: all rows"


def test_only_the_tagged_cell_counts() -> None:
    tagged = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["x = 1\n", "y = 2"]}
    other = {"cell_type": "code", "metadata": {}, "source": "z = 3"}
    assert [one.name for one in infer({"cells": [other, tagged]})] == ["x", "y"]


def test_a_cell_that_is_not_python_is_refused_by_its_line() -> None:
    with pytest.raises(ParameterError, match="not valid Python in line 2"):
        infer_source("a = 1\nb = = 2")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("a", "not an int", "'not an int' is not a whole number"),
        ("a", True, "True is not a whole number"),
        ("a", None, "None is not a whole number"),
        ("b", "2.5", "is not a number"),
        ("b", math.nan, "no finite JSON value"),
        ("c", 5, "is not a text"),
        ("g", 1, "is not true or false"),
        ("d", {"a": 1}, "is not a list"),
        ("rate", 1, "has no parameter 'rate'"),
    ],
)
def test_wrong_values_and_unknown_names_are_refused_with_the_field(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence) as caught:
        validate(found().values(), {name: value})
    assert caught.value.field == f"parameters.{name}"


def test_right_values_pass_and_become_what_the_notebook_declares() -> None:
    values = validate(found().values(), {"a": 2, "b": 3, "h": None, "home": [1, {"x": None}]})
    assert values == {"a": 2, "b": 3.0, "h": None, "home": [1, {"x": None}]}
    assert isinstance(values["b"], float)


def test_given_values_become_defaults() -> None:
    changed = {one.name: one.default for one in with_defaults(found().values(), {"a": 7})}
    assert (changed["a"], changed["b"]) == (7, 2.5)
