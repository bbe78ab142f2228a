"""What a project may name as its base: an interpreter, an environment, a package; to the letter, never by a beginning."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage_images import environments
from moorage_images.errors import ManifestError
from moorage_images.manifest import parse
from tests.security.examples import examples
from tests.security.test_specs import JSON

Headers = dict[str, str]
OFFERED = ["3.11", "3.12"]
LIKE_OFFERED = [
    "3.11\n",
    "\n3.11",
    " 3.11",
    "3.11 ",
    "3.110",
    "3.1",
    "3",
    "3.11.evil",
    "3.11.2",
    "3.11/../../bin",
    "/usr/bin/python3.11",
    "python3.11",
    "3.11\0",
    "\uff13.11",
    "3\u200b.11",
    "3.1\u0661",
    "3.11@sha256:0",
    "x@3.11",
    "3.11#",
    "3.11;id",
    "$(id)",
    "",
    "3.13",
    "-3.11",
    "--3.11",
    "V3.11",
]


@pytest.mark.parametrize("version", LIKE_OFFERED)
def test_an_interpreter_is_one_that_is_offered_to_the_letter(version: str) -> None:
    with pytest.raises(ManifestError):
        parse(f"name: x\npython: {json.dumps(version)}\n", OFFERED)


@examples(300)
@given(JSON | st.text(alphabet="3.12 \n/\uff13", max_size=6))
def test_whatever_a_project_names_as_its_python_is_offered_or_refused(version: Any) -> None:
    try:
        found = parse(f"name: x\npython: {json.dumps(version)}\n", OFFERED)
    except ManifestError:
        return
    assert found.python in OFFERED
    assert version in OFFERED or version in (3.11, 3.12)


DIGEST = "0" * 39 + "a"


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../x",
        "/etc",
        f"{DIGEST}\n",
        f"\n{DIGEST}",
        f"{DIGEST}/",
        f"{DIGEST}/..",
        f" {DIGEST}",
        DIGEST.upper(),
        f"{DIGEST}\0",
        "\uff10" * 40,
        "\u0660" * 40,
        "-" + DIGEST,
        DIGEST * 3,
        f"evil@{DIGEST}",
        f"{DIGEST}.evil",
        "~",
        "file:///x",
    ],
)
def test_an_environment_is_named_by_a_digest_and_by_no_path(tmp_path: Path, name: str) -> None:
    (tmp_path / DIGEST).mkdir()
    with pytest.raises(ValueError, match="can't be the name of an environment"):
        environments.path_of(tmp_path, name)
    assert environments.path_of(tmp_path, DIGEST) == tmp_path / DIGEST


@pytest.mark.parametrize(
    "package",
    [
        "evil @ https://evil.example/x.whl",
        "evil@file:///etc/passwd",
        "./x",
        "../x",
        "/x",
        "~/x",
        "git+https://x/y",
        "-e .",
        "--index-url https://x",
        "-r x.txt",
        "pandas\n--index-url=https://x",
        "pandas --hash=sha256:0",
        "pandas\\\n-e .",
        "moorage",
        "moorage-service",
        "MOORAGE_hub",
        "m\u043eorage",
        "pandas; @ x",
        "https://x/y.whl",
        "a b",
        "",
        "pandas==1\0",
        "pandas\u2028-e .",
    ],
)
def test_a_package_is_one_of_the_index_and_no_address_option_or_part_of_moorage(package: str) -> None:
    with pytest.raises(ManifestError):
        parse(f"name: x\npackages: [{json.dumps(package)}]\n", OFFERED)


@examples(300)
@given(st.text(alphabet=string.ascii_letters + "0123456789-._[]<>=!~;,'\" \n\t@/:#\\\u2028\x0c", max_size=30))
def test_whatever_a_package_is_called_it_is_one_line_without_an_address(package: str) -> None:
    try:
        found = parse(f"name: x\npackages: [{json.dumps(package)}]\n", OFFERED)
    except ManifestError:
        return
    (line,) = found.packages
    assert len(line.splitlines()) == 1
    assert "@" not in line
    assert "://" not in line
    assert not line.startswith(("-", ".", "/", "~"))
