"""The starter project is whole: its manifest is read, its notebooks are clean, and bring what they import."""

import ast
import json

import nbformat
import pytest

from moorage_images import manifest, template

NOTEBOOKS = ("ray.ipynb", "dask.ipynb")


def test_its_manifest_runs_on_whatever_python_the_admin_offers() -> None:
    read = manifest.parse(template.manifest(), ["3.13"])
    assert read.python == "3.13"
    assert set(read.clusters) == {"ray", "dask"}
    assert any(package.startswith("ray[client,default]==") for package in read.packages)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_clean_and_its_first_code_cell_holds_parameters(name: str) -> None:
    notebook = json.loads(template.contents()[name])
    nbformat.validate(notebook)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert code[0]["metadata"]["tags"] == ["parameters"]
    assert all(isinstance(line, ast.AnnAssign) for line in ast.parse("".join(code[0]["source"])).body)


@pytest.mark.parametrize(("name", "helper"), [("ray.ipynb", "search"), ("dask.ipynb", "population")])
def test_its_helpers_are_beside_it(name: str, helper: str) -> None:
    contents = template.contents()
    assert f"import {helper}" in contents[name].decode()
    ast.parse(contents[f"{helper}.py"])
