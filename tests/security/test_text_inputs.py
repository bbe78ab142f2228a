"""Texts that people write are read or refused in a sentence, in bounded time: cron, moorage.yaml, and notebooks to be promoted."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.promotion import NotANotebookError, strip_outputs
from moorage.wire import Schedule, SnapshotFile
from moorage_images.errors import ManifestError
from moorage_images.manifest import Manifest, parse
from moorage_jobs import parameters, promote, schedule
from moorage_jobs.errors import ParameterError, ScheduleError, SourceError
from moorage_jobs.snapshot import checked_path
from tests.security.examples import examples

NOW = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)


def is_a_sentence(text: str, field: str | None = None, fields: tuple[str | None, ...] = (None,)) -> None:
    assert 10 < len(text) < 2000, text
    assert text.rstrip().endswith((".", "?", "!")), text
    assert "Traceback" not in text
    assert field in fields


# Cron

FIELD = st.one_of(
    st.sampled_from(
        [
            "*",
            "*/7",
            "0",
            "1-5",
            "1,2,3",
            "L",
            "W",
            "15W",
            "LW",
            "5#5",
            "SUN",
            "JAN-MAR",
            "*/0",
            "59/1",
            "5-1",
            "0-0/9999999",
            "?",
            "H",
            "-1",
        ]
    ),
    st.integers(min_value=-2, max_value=70).map(str),
    st.from_regex(r"[0-9*/,\-#LW]{1,8}", fullmatch=True),
)
CRON = st.one_of(
    st.lists(FIELD, min_size=5, max_size=5).map(" ".join),
    st.lists(FIELD, max_size=8).map("\t".join),
    st.sampled_from(list(schedule.ALIASES)),
    st.text(max_size=40),
)
ZONE = st.one_of(
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"]),
    st.text(max_size=20),
)
IMPOSSIBLE = ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 4 *", "0 0 32 * *", "60 0 1 1 *"]


@pytest.mark.timeout(300)
@examples(200, times=20)
@given(CRON, ZONE)
@example("0 0 29 2 *", "UTC")
@example("30 2 29 2 *", "Europe/Berlin")
@example("* * 29 2 5#5", "Europe/Berlin")
@example("0 0 29 2 MON#5", "UTC")
@example("9" * 5000 + " 0 0 0 0", "UTC")
@example("* " * 50_000, "UTC")
@example("0 6 * * *", "../../etc/passwd")
@example("0 6 * * *", "/etc/localtime")
@example("0 6 * * *", "Europe/Berlin\0")
@example("\u0660 6 * * *", "UTC")
def test_a_cron_text_fires_forward_or_is_refused_with_its_field(cron: str, zone: str) -> None:
    try:
        table = schedule.parse(cron, zone)
    except ScheduleError as error:
        is_a_sentence(str(error), error.field, ("cron", "timezone"))
        return
    shown = schedule.preview(Schedule(cron=cron, timezone=zone), NOW)
    assert shown.words
    assert len(shown.next) <= 5
    fires = [datetime.fromisoformat(each) for each in shown.next]
    assert all(NOW < one < other for one, other in zip([NOW, *fires], fires, strict=False) if one is not NOW)
    assert all(fire > NOW for fire in fires)
    plan = schedule.plan_due(table, NOW - timedelta(days=3), NOW, "run_all", grace=timedelta(minutes=5))
    assert len(plan.run) <= 20_001
    assert plan.next_fire_at is None or plan.next_fire_at > NOW


@pytest.mark.parametrize("cron", IMPOSSIBLE)
def test_a_day_that_no_month_has_is_refused(cron: str) -> None:
    with pytest.raises(ScheduleError):
        schedule.parse(cron)


# moorage.yaml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=10,
)
SIZE = {"cpu": 1, "memory": "2GiB", "gpu": 0}
WHOLE: dict[str, Any] = {
    "name": "x", "python": "3.11", "packages": ["pandas"], "system": ["libgomp1"],
    "clusters": {"ray": {"min_workers": 1, "max_workers": 2, "worker": SIZE}},
    "jobs": {"daily": {
        "notebook": "a.ipynb", "files": ["b.py"], "schedule": "0 6 * * *", "timezone": "UTC", "parameters": {"a": 1}, "secrets": ["KEY"],
        "size": SIZE, "cluster": {"engine": "dask", "worker": SIZE}, "timeout_s": 60,
    }},
}  # fmt: skip
BOMB = "a: &a [x,x]\n" + "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)},*{chr(97 + n)}]" for n in range(20))
TRAPS = [
    BOMB,
    "name: &a {b: *a}",
    "name: !!python/object/apply:os.system [id]",
    "name: !!python/name:os.system",
    "name: !x y",
    "name: !!binary aGk=",
    "!!set {name}",
    "name: x\nname: y",
    "name: x\n'name': y",
    "name: 0x" + "f" * 5000,
    "name: " + "9" * 5000,
    "name: 1" + ":59" * 1000,
    "? [a, b]\n: c",
    "? {a: b}\n: c",
    "1: x\nname: y",
    "null: x",
    "yes: x",
    "name: x\n<<: {name: y}",
    "name: x\n<<: [1]",
    "[" * 20000,
    "{" * 20000,
    "- " * 20000,
    "a: " * 20000,
    "name: x\n---\nname: y",
    "%YAML 3.0\n---\nname: x",
    "%TAG ! tag:x,2000:\n---\nname: !a b",
    "\ufeffname: x",
    "name: x\0",
    "name: \ud800",
    "name: \x85",
    "name: 2026-13-45",
    "name: 2026-01-01",
    "name: .inf",
    "name: ~",
    "name: |\n  a\n  b\n",
    "name: 'x",
    "\t",
    "",
    "name",
    "*a",
    "&a",
    "x" * 70_000,
    "name: x\njobs: {a: {notebook: ../b.ipynb}}",
    "name: x\njobs: {a: {notebook: /b.ipynb}}",
    'name: x\njobs: {a: {notebook: "b.ipynb\\n"}}',
    "name: x\njobs: {a: {notebook: b.ipynb, parameters: {a: .nan}}}",
    "name: x\njobs: {'a\\n': {notebook: b.ipynb}}",
    "name: x\njobs: {a: {notebook: b.ipynb, timeout_s: 1.5e300}}",
    "name: x\nclusters: {ray: {max_workers: .inf, worker: {cpu: 1, memory: 1GiB}}}",
    "name: x\nclusters: {ray: {worker: {cpu: 1, memory: 99999999999999999999TiB}}}",
    "name: x\npackages: ['pandas @ file:///etc/passwd']",
    "name: x\npackages: ['--index-url=x']",
    "name: x\npackages: ['-r /etc/passwd']",
    'name: x\npackages: ["pandas\\n--index-url=x"]',
    "name: x\npackages: ['pandas; python_version<\"9\" @ x']",
    "name: x\npackages: ['git+ssh://x']",
]


def manifest_or_sentence(text: str) -> Manifest | None:
    try:
        found = parse(text, ["3.11"])
    except ManifestError as error:
        is_a_sentence(error.message)
        return None
    json.dumps([job.parameters for job in found.jobs], allow_nan=False)
    for job in found.jobs:
        assert job.notebook.isprintable()
        for path in (job.notebook, *job.files):
            assert ".." not in path
            assert not path.startswith("/")
    for package in found.packages:
        assert "\n" not in package
        assert "://" not in package
        assert not package.startswith("-")
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("text", TRAPS, ids=range(len(TRAPS)))
def test_a_trap_in_moorage_yaml_is_a_sentence(text: str) -> None:
    found = manifest_or_sentence(text)
    if found is not None:
        assert all(character.isprintable() or character == "\n" for character in found.name)
    if any(trap in text for trap in ("!!", "!x", "&a [", "*a", "' @", "../", "..\\n")):
        assert found is None


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(each for key, value in inner for each in places(value, (*path, key)))]


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy


@pytest.mark.timeout(300)
@examples(150)
@given(st.sampled_from(places(WHOLE)), JSON)
def test_whatever_stands_in_moorage_yaml_it_is_read_or_a_sentence(path: tuple[Any, ...], value: Any) -> None:
    document = replaced(WHOLE, path, value)
    manifest_or_sentence(json.dumps(document))
    manifest_or_sentence(yaml.safe_dump(document, allow_unicode=True))


@examples(200)
@given(st.one_of(st.text(max_size=200), st.from_regex(r"[\[\]{}:&*!|>'\"%@`#,?\-\n \ta0]{0,60}", fullmatch=True)))
def test_whatever_text_moorage_yaml_is_it_is_read_or_a_sentence(text: str) -> None:
    manifest_or_sentence(text)


# Notebooks

CELL: dict[str, Any] = {
    "cell_type": "code",
    "source": "a = 1",
    "metadata": {"tags": ["parameters"]},
    "outputs": [],
    "execution_count": None,
}
NOTEBOOK: dict[str, Any] = {
    "nbformat": 4, "nbformat_minor": 5, "cells": [CELL],
    "metadata": {"kernelspec": {"language": "python", "name": "python3"}, "language_info": {"name": "python", "version": "3.11"}},
}  # fmt: skip
SOURCES = [
    "a = 1\0",
    "a = '\ud800'",
    "a = " + "(" * 1000 + ")" * 1000,
    "a = " + "[" * 90 + "]" * 90,
    "a = " + "-" * 5000 + "1",
    "a = " + "9" * 5000,
    "a = 1e999",
    "a: " + "b[" * 200 + "int" + "]" * 200 + " = 1",
    "a: '" + "(" * 300 + "' = 1",
    "a: 'x\0y' = 1",
    "a = " + "1+" * 5000 + "1",
    "a = 0x" + "f" * 6000,
    "if",
    "\x0c",
    "%%",
    "%%time",
    "import " + "a." * 3000 + "a",
    "from " + "." * 3000 + " import a",
    "%run a/../../b",
    "a = {1: 2, b'x': {3}}",
    "a = {'x': ...}",
    "a = f'{1}'",
    "\\",
    "a = 1\r b = 2",
]


def promoted(document: Any) -> None:
    content = json.dumps(document).encode()
    file = SnapshotFile(path="a.ipynb", content=base64.b64encode(content).decode())
    try:
        source = promote.inspect("a.ipynb", [file])
    except (SourceError, ParameterError) as error:
        is_a_sentence(str(error), error.field, ("notebook", "files", "parameters"))
        return
    json.dumps([one.default for one in source.parameters], allow_nan=False)


@pytest.mark.timeout(300)
@examples(300)
@given(st.sampled_from(places(NOTEBOOK)), JSON)
@example(("cells", 0, "source"), [1])
@example(("cells", 0, "metadata", "tags"), 3)
@example(("metadata", "kernelspec"), [])
@example(("metadata", "language_info"), "x")
@example(("cells", 0, "source"), "\ud800")
@example(("metadata",), {"a": 10**400})
def test_whatever_stands_in_a_notebook_it_is_promoted_or_refused_with_its_field(
    path: tuple[Any, ...], value: Any
) -> None:
    promoted(replaced(NOTEBOOK, path, value))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", SOURCES, ids=range(len(SOURCES)))
@pytest.mark.parametrize("tags", [["parameters"], []])
def test_whatever_code_stands_in_a_cell_it_is_promoted_or_refused_with_its_field(source: str, tags: list[str]) -> None:
    promoted({**NOTEBOOK, "cells": [{**CELL, "source": source, "metadata": {"tags": tags}}]})


@examples(300)
@given(st.text(max_size=60))
def test_whatever_text_a_parameters_cell_is_it_is_read_or_refused(text: str) -> None:
    try:
        found = parameters.infer_source(text)
    except ParameterError as error:
        is_a_sentence(str(error), error.field, ("parameters",))
        return
    assert all(one.name.isidentifier() for one in found)
    promoted({**NOTEBOOK, "cells": [{**CELL, "source": text}]})


@examples(200)
@given(st.binary(max_size=80))
def test_whatever_bytes_a_notebook_is_it_is_read_or_refused(content: bytes) -> None:
    try:
        strip_outputs(content)
    except NotANotebookError as error:
        is_a_sentence(str(error))


# Paths

PATHS = [
    "../a.ipynb",
    "a/../../b",
    "/etc/passwd",
    "~/a",
    "~root/a",
    "file:///etc/passwd",
    "s3://bucket/a",
    "a\\..\\b",
    "a//b",
    "./a",
    "a/./b",
    "a/..",
    "..",
    ".",
    "",
    "a\0b",
    "a\nb",
    "a\u202eb",
    "x" * 300,
    "/".join("abcdefghi"),
    "a/",
    "\u2025/a",
    "C:\\a",
    "\\\\host\\a",
    "http:/x//y",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_a_snapshot_stays_below_its_folder(path: str) -> None:
    try:
        kept = checked_path(path)
    except SourceError as error:
        is_a_sentence(str(error), error.field, ("files",))
        return
    assert kept == path
    assert not path.startswith(("/", "~"))
    assert not {"..", ".", ""} & set(path.split("/"))
