"""What goes into a snapshot, what is refused, and that the same source has the same digest."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.promotion import NotANotebookError, collect, strip_outputs, value_from_text
from moorage.wire.jobs import SnapshotFile
from moorage_jobs import snapshot
from moorage_jobs.clusters_used import engine_used
from moorage_jobs.errors import SnapshotMissingError, SourceError
from moorage_jobs.promote import inspect


def notebook(*cells: str, **metadata: Any) -> bytes:
    made: list[Any] = [
        {"cell_type": "code", "metadata": {}, "source": cell, "outputs": [], "execution_count": None} for cell in cells
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": made}).encode()


def file(path: str, content: bytes = b"x") -> SnapshotFile:
    return SnapshotFile(path=path, content=base64.b64encode(content).decode())


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__in__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_modules_beside_the_notebook_are_collected_through_one_another(tmp_path: Path) -> None:
    write(
        tmp_path,
        helper="import other, numpy",
        other="",
        unused="",
        script="",
        pkg__in__a="from . import b",
        pkg__in__b="",
    )
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "work.ipynb").write_bytes(
        notebook(
            "%matplotlib inline\nimport os\nfrom helper import thing",
            "if 1:\n    from pkg import a\n    %run script.py",
        )
    )
    paths = [one.path for one in collect(tmp_path / "work.ipynb")]
    assert paths == ["helper.py", "other.py", "pkg/__init__.py", "pkg/a.py", "pkg/b.py", "script.py", "work.ipynb"]


def test_other_files_go_along_when_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "work.ipynb").write_bytes(notebook("1"))
    (tmp_path / "cities.csv").write_text("a")
    assert [one.path for one in collect(tmp_path / "work.ipynb", ["*.csv"])] == ["cities.csv", "work.ipynb"]
    for wrong in ("../secret", "/etc/passwd", "none-*.csv"):
        with pytest.raises(FileNotFoundError, match=r"."):
            collect(tmp_path / "work.ipynb", [wrong])


def test_a_notebook_that_was_run_is_the_same_source() -> None:
    plain = json.loads(notebook("1 + 1"))
    executed = json.loads(notebook("1 + 1", papermill={"x": 1}))
    executed["cells"][0].update(execution_count=3, outputs=[{"output_type": "stream", "name": "stdout", "text": "2"}])
    executed["cells"][0]["metadata"] = {"execution": {"iopub.status.busy": "now"}}
    assert strip_outputs(json.dumps(plain).encode()) == strip_outputs(json.dumps(executed).encode())


@pytest.mark.parametrize("content", [b"not json", b"[]", b'{"nbformat": 3}', b'{"nbformat": 4, "cells": [1]}', b"\xff"])
def test_what_is_no_notebook_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(NotANotebookError, match="Open it in JupyterLab"):
        strip_outputs(content)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", "a//b", "", ".", "a\\b", "a\nb", "~root", "a/", "a/b/c/d/e/f/g/h/i"]
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(SourceError, match="no path for a snapshot"):
        snapshot.decode([file(path)])


def test_too_much_twice_and_tangled_is_refused() -> None:
    cases = {
        "given twice": [file("a"), file("a")],
        "both a file and the folder": [file("a"), file("a/b")],
        "more than the 200": [file(f"f{n}") for n in range(201)],
        "may have": [file("a", b"x" * (snapshot.MAX_FILE_BYTES + 1))],
        "in all": [file(f"f{n}", b"x" * snapshot.MAX_FILE_BYTES) for n in range(3)],
        "not base64": [SnapshotFile(path="a", content="***")],
    }
    for sentence, files in cases.items():
        with pytest.raises(SourceError, match=sentence):
            snapshot.decode(files)


@given(st.dictionaries(st.text("abc/", min_size=1, max_size=5), st.binary(max_size=20), min_size=1, max_size=5))
def test_the_digest_depends_on_paths_and_contents_alone(files: dict[str, bytes]) -> None:
    name = snapshot.digest(files)
    assert name == snapshot.digest(dict(reversed(files.items())))
    first = next(iter(files))
    assert name != snapshot.digest({**files, first: files[first] + b"!"})
    assert name != snapshot.digest({**files, first + "!": b""})


def test_a_store_gives_back_what_was_put_and_keeps_it_private(tmp_path: Path) -> None:
    store = snapshot.SnapshotStore(tmp_path / "snapshots")
    files = {"work.ipynb": b"{}", "pkg/a.py": b"a = 1"}
    name = store.put(files)
    assert store.put(files) == name
    assert store.has(name)
    assert store.get(name) == files
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "snapshots").rglob("*"))


def test_a_snapshot_that_is_missing_or_altered_is_refused(tmp_path: Path) -> None:
    store = snapshot.SnapshotStore(tmp_path)
    name = store.put({"a": b"1"})
    next((tmp_path / "blobs").iterdir()).write_bytes(b"2")
    for wrong, sentence in ((name, "altered"), ("0" * 64, "not in the store"), ("../../x", "no digest")):
        with pytest.raises(SnapshotMissingError, match=sentence):
            store.get(wrong)


def test_unpacking_gives_the_folder_to_its_owner_last(tmp_path: Path) -> None:
    uid = 61_234 if os.geteuid() == 0 else os.geteuid()
    snapshot.unpack({"work.ipynb": b"{}", "pkg/a.py": b"a"}, tmp_path / "run", uid=uid, gid=None)
    found = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert {path.stat().st_uid for path in found} == {uid}
    assert all(path.stat().st_mode & 0o077 == 0 for path in found)
    with pytest.raises(FileExistsError):
        snapshot.unpack({"a": b""}, tmp_path / "run")


def test_inspect_reads_parameters_and_leaves_outputs_out() -> None:
    document = json.loads(notebook("rate = 0.5  # share", "print(1)"))
    document["cells"][0]["metadata"]["tags"] = ["parameters"]
    document["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "private"}]
    source = inspect("work.ipynb", [file("work.ipynb", json.dumps(document).encode()), file("helper.py")])
    assert [(one.name, one.type, one.default) for one in source.parameters] == [("rate", "float", 0.5)]
    assert b"private" not in source.files["work.ipynb"]
    assert set(source.files) == {"work.ipynb", "helper.py"}


def test_inspect_refuses_other_languages_and_missing_notebooks() -> None:
    with pytest.raises(SourceError, match="written in r"):
        inspect("a.ipynb", [file("a.ipynb", notebook("x <- 1", kernelspec={"language": "R", "name": "ir"}))])
    with pytest.raises(SourceError, match="not among the files"):
        inspect("b.ipynb", [file("a.ipynb", notebook("1"))])
    with pytest.raises(SourceError, match=r"does not end in \.ipynb"):
        inspect("a.py", [file("a.py")])


def test_typed_text_becomes_the_value_that_was_meant() -> None:
    assert value_from_text("str", "5") == "5"
    assert value_from_text("int", "5") == 5
    assert value_from_text("bool", "yes") is True
    assert value_from_text("list", "[1]") == [1]
    assert value_from_text("float", "much") == "much"


@pytest.mark.parametrize(
    ("cells", "engine"),
    [
        (["import moorage\nmoorage.sizing('dask')", "moorage.attach(engine='ray')"], "dask"),
        (["%pip list\nimport moorage", "cluster = moorage.attach()", "import dask.dataframe as dd"], "dask"),
        (["from moorage import attach\nattach('mine', engine='ray')"], "ray"),
        (["import moorage\nmoorage.attach()"], "ray"),
        (["import ray", "attach('ray')", "broken ="], None),
    ],
)
def test_the_engine_that_a_notebook_attaches_to_is_read_from_its_code(cells: list[str], engine: str | None) -> None:
    assert engine_used(cells) == engine
