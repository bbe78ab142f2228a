"""The table in docs/security.md: each row's test exists, and each assertion is in it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "security.md"
ASSERTIONS = set(range(1, 31))
NODE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:\[[^\]`]*\])?`")


def rows() -> list[tuple[int, str, str]]:
    """Number, what is asserted, and the cell that names the tests."""
    found = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 3 and cells[0].isdigit():
            found.append((int(cells[0]), cells[1], cells[2]))
    return found


def named_in(path: Path) -> set[str]:
    """Names of the functions of a test module that pytest collects."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_each_row_names_tests_that_exist() -> None:
    assert len(rows()) > 4
    for number, asserted, cell in rows():
        assert asserted, f"{number}: say what is asserted"
        named = NODE.findall(cell)
        assert named, f"{number}: {cell!r} names no test; write `tests/security/test_x.py::test_name`"
        assert not NODE.sub("", cell).strip(" ,;"), f"{number}: {cell!r} holds something else than tests"
        for file, test in named:
            assert (ROOT / file).is_file(), f"{number}: {file} does not exist"
            assert test in named_in(ROOT / file), f"{number}: {file} has no test {test!r}"


@pytest.mark.parametrize("number", sorted(ASSERTIONS))
def test_each_assertion_has_a_row(number: int) -> None:
    assert number in {row[0] for row in rows()}, f"docs/security.md has no row for assertion {number}"


def test_no_row_has_a_number_that_is_none() -> None:
    assert {row[0] for row in rows()} <= ASSERTIONS
