"""A run's parameters arrive in its kernel as the data that was sent, whatever they hold; and no path of a run leaves its folder."""

import json
import math
import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.promotion import collect, local_modules
from moorage.wire.jobs import Parameter
from moorage_jobs import parameters, snapshot
from moorage_jobs.errors import ParameterError, SourceError
from moorage_service.errors import NotFound
from moorage_service.jobs import outputs
from moorage_service.settings import Settings
from tests.fakes.runs_service import runs_service
from tests.jobs.test_runner import Bench
from tests.security.examples import FULL, examples

NASTY: list[Any] = [
    "",
    "'",
    '"',
    "'''",
    '"""',
    "\\",
    "\\'",
    '\\"',
    "\\n",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\0",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\ufeff",
    "\x0c",
    "a\\",
    "\\\\\\",
    '"); import os; os._exit(3)  #',
    "'''\nimport os\nos._exit(3)\n'''",
    '"""\nimport os\nos._exit(3)\n"""',
    "{0}",
    "{{x}}",
    "%s",
    "%pip install x",
    "!touch evil",
    "?",
    "x?",
    "%%bash\nexit 3",
    "$HOME",
    "`id`",
    "# parameters",
    "\N{PILE OF POO}",
    "\U0010ffff",
    "e\u0301",
    "\u202eevil",
    "None",
    "nan",
    "True",
    "__import__('os')._exit(3)",
    "\\N{BULLET}",
    "\\u0041",
    "\\x41",
    "f'{1}'",
    "</script><script>",
    "x" * 100_000,
    "\\" * 999,
    '"' * 999,
    0,
    -1,
    2**63,
    -(2**63),
    2**64,
    10**299,
    0.1,
    -0.0,
    1e-323,
    1.7976931348623157e308,
    True,
    False,
    None,
    [],
    {},
    [[]],
    [None],
    {"": ""},
    {"'": {'"': ["\n"]}},
    {"__class__": 1},
    {"a\nb": 1, "\0": 2, "\\": 3},
    [True, 1, 1.0],
    list(range(3000)),
]
LETTERS = ["'", '"', "\\", "\n", "\r", "\0", "{", "}", "%", "#", "a", "\u00e9", "\u2028", "\U0001f4a9", "\x85", " "]


def some_value(choose: random.Random, depth: int = 3) -> Any:
    kind = choose.randrange(8 if depth else 6)
    if kind == 0:
        return choose.choice([None, True, False])
    if kind == 1:
        return choose.randint(-(10**30), 10**30)
    if kind == 2:
        return choose.uniform(-1e9, 1e9)
    if kind in (3, 4, 5):
        return "".join(choose.choices(LETTERS, k=choose.randint(0, 30)))
    if kind == 6:
        return [some_value(choose, depth - 1) for _ in range(choose.randint(0, 4))]
    return {some_key(choose): some_value(choose, depth - 1) for _ in range(choose.randint(0, 4))}


def some_key(choose: random.Random) -> str:
    return "".join(choose.choices(LETTERS, k=choose.randint(0, 6)))


def same(one: Any, other: Any) -> bool:
    """Equal, with the same types all the way down: True is not 1, and 1 is not 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize("seed", range(20 if FULL else 1))
def test_every_value_arrives_in_the_kernel_as_it_was_sent(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    values = NASTY + [some_value(choose) for _ in range(250)]
    declared = [Parameter(name=name, type="any") for name in ("values", "named", "text", "number")]
    given = {
        "values": values,
        "named": {f"k{n}": value for n, value in enumerate(values)},
        "text": "\n".join(LETTERS),
        "number": 10**299,
    }
    passed = parameters.validate(declared, given)
    keep = "import json\nwith open('arrived.json', 'w') as file:\n    json.dump([values, named, text, number], file)"
    with runs_service() as service:
        bench = Bench(tmp_path, service, [])
        outcome = bench.run("# parameters\nvalues = named = text = number = None", keep, parameters=passed)
    assert int(outcome) == 0, bench.log()[-2000:]
    arrived = json.loads((tmp_path / "source" / "arrived.json").read_text())
    for sent, got in zip(values, arrived[0], strict=True):
        assert same(sent, got), repr(sent)[:200]
    assert same(given["named"], arrived[1])
    assert arrived[2:] == [given["text"], given["number"]]
    assert not (tmp_path / "source" / "evil").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@examples(300)
@given(JSON, st.sampled_from(["str", "int", "float", "bool", "list", "dict", "any"]))
def test_a_value_is_passed_on_unchanged_or_refused_with_its_name(value: Any, kind: Any) -> None:
    try:
        passed = parameters.validate([Parameter(name="p", type=kind, default=0)], {"p": value})["p"]
    except ParameterError as error:
        field, sentence = error.field, str(error)
        assert field == "parameters.p"
        assert 10 < len(sentence) < 400
        return
    assert same(passed, float(value) if kind == "float" and not isinstance(value, str) else value)
    json.dumps(passed, allow_nan=False).encode()


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, [math.nan], {"a": math.inf}, "\ud800", {"\udfff": 1}, 10**5000, [10**400]],
    ids=range(9),
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError):
        parameters.validate([Parameter(name="p", type="any")], {"p": value})


def test_values_that_are_nested_without_end_are_refused() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    with pytest.raises(ParameterError):
        parameters.validate([Parameter(name="p", type="any")], {"p": value})


# Paths

OUTSIDE = [
    "../x",
    "..",
    "a/../../x",
    "/etc/passwd",
    "//etc/passwd",
    "~/x",
    "file:///etc/passwd",
    "s3://b/x",
    "http://x/y",
    "\\x",
    "a\\..\\x",
    "notebook.ipynb/..",
    "notebook.ipynb\0",
    "notebook.ipynb\n",
    " notebook.ipynb",
    "NOTEBOOK.IPYNB",
    ".notebook.ipynb",
    "run.log/../../x",
    "%2e%2e/x",
    "\uff0e\uff0e/x",
    "",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_output_has_one_of_three_names_and_no_path(tmp_path: Path, name: str) -> None:
    settings = Settings.model_construct(state=tmp_path)
    (tmp_path / "x").write_text("secret")
    for use in (outputs.find, outputs.Upload):
        with pytest.raises(NotFound):
            use(settings, "run-1", name)
    assert not list(tmp_path.glob("**/.*"))


@examples(300)
@given(
    st.lists(st.sampled_from(["..", ".", "a", "", "~", "b.py", "\0", "\n", "c:", "\u2024\u2024"]), max_size=5).map(
        "/".join
    )
    | st.text(max_size=30)
)
def test_whatever_path_is_sent_a_snapshot_is_unpacked_below_its_folder(path: str) -> None:
    try:
        kept = snapshot.checked_path(path)
    except SourceError:
        return
    folder = Path("/scratch/run/source")
    target = Path(os.path.normpath(folder / kept))
    assert folder in target.parents
    assert str(folder / kept) == str(target)
    assert all(unicodedata.category(each) not in ("Cc", "Cs") for each in kept)


def test_unpacking_follows_no_link_and_overwrites_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    (tmp_path / "source").symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        snapshot.unpack({"secret": b"overwritten"}, tmp_path / "source")
    assert secret.read_text() == "kept"
    with pytest.raises(SourceError):
        snapshot.unpack({"../secret": b"overwritten"}, tmp_path / "other")
    assert secret.read_text() == "kept"


def test_promotion_collects_nothing_from_outside_the_notebooks_folder(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.py", tmp_path / "work"
    folder.mkdir()
    (folder / "a").mkdir()
    outside.write_text("SECRET = 1")
    cells = [
        "%run ../outside",
        "%run a/../../outside",
        "%run /etc/passwd",
        "from ..outside import SECRET",
        "from ... import outside",
        "%run ~/outside",
    ]
    assert local_modules(folder, cells) == []
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [{"cell_type": "code", "metadata": {}, "source": cells[1]}],
    }
    (folder / "n.ipynb").write_text(json.dumps(notebook))
    assert [file.path for file in collect(folder / "n.ipynb")] == ["n.ipynb"]
    for pattern in ("../outside.py", "/etc/passwd", "~/x", "a/../../outside.py", "**/../../outside.py"):
        with pytest.raises(FileNotFoundError):
            collect(folder / "n.ipynb", [pattern])
