"""The trusted step refuses a tree that reaches outside of itself, and takes every write bit away."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage_images.environments import installed
from moorage_images.errors import UnsafeTreeError
from moorage_images.interpreters import Interpreter
from moorage_images.seal import remove, seal
from tests.nesting import nest_below


@pytest.fixture
def tree(tmp_path: Path, interpreter: Interpreter) -> Path:
    """What `uv venv` makes, in its essentials."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").symlink_to(interpreter.path)
    (root / "lib").mkdir()
    (root / "lib" / "module.py").write_text("")
    (root / "lib64").symlink_to("lib")
    (root / "pyvenv.cfg").write_text(f"home = {interpreter.path.parent}\nversion_info = 3\n")
    return root


def test_write_and_special_bits_are_taken_away(tree: Path, interpreter: Interpreter) -> None:
    program = tree / "bin" / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o6777)
    seal(tree, interpreter, owner=None)
    assert program.stat().st_mode & 0o7777 == 0o555
    assert (tree / "lib" / "module.py").stat().st_mode & 0o7777 == 0o444
    assert (tree / "lib").stat().st_mode & 0o7777 == 0o555
    remove(tree)
    assert not tree.exists()


def _link(tree: Path) -> None:
    (tree / "lib" / "passwd").symlink_to("/etc/passwd")


def _link_through_a_folder(tree: Path) -> None:
    (tree / "lib" / "deep" / "er").mkdir(parents=True)
    (tree / "lib" / "deep" / "er" / "top").symlink_to("../../..")
    (tree / "lib" / "out").symlink_to("deep/er/top/../outside")


def _hard_link(tree: Path) -> None:
    (tree.parent / "shared").write_text("")
    os.link(tree.parent / "shared", tree / "lib" / "shared")


def _pipe(tree: Path) -> None:
    os.mkfifo(tree / "lib" / "pipe")


def _other_python(tree: Path) -> None:
    (tree / "bin" / "python").unlink()
    (tree / "bin" / "python").symlink_to("/bin/sh")


def _endless_home(tree: Path) -> None:
    with (tree / "pyvenv.cfg").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room on the disk


def _deep(tree: Path) -> None:
    nest_below(tree / "lib")


def _other_home(tree: Path) -> None:
    (tree / "pyvenv.cfg").write_text("home = /tmp\n")


@pytest.mark.parametrize(
    "harm", [_link, _link_through_a_folder, _hard_link, _pipe, _other_python, _other_home, _endless_home, _deep]
)
def test_a_tree_that_reaches_outside_is_refused(
    tree: Path, interpreter: Interpreter, harm: Callable[[Path], None]
) -> None:
    harm(tree)
    try:
        with pytest.raises(UnsafeTreeError, match="Remove the package"):
            seal(tree, interpreter, owner=None)
    finally:
        remove(tree)
    assert not tree.exists()


def test_what_is_installed_is_read_from_the_beginning_of_metadata(tree: Path) -> None:
    site = tree / "lib" / "python3.11" / "site-packages"
    for name in ("tide-1.0.dist-info", "odd.dist-info", "old.egg-info"):
        (site / name).mkdir(parents=True)
    (site / "tide-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Tide_Pool\nVersion: 1.0\n\nText\n"
    )
    with (site / "tide-1.0.dist-info" / "METADATA").open("r+b") as file:
        file.truncate(1 << 40)
    (site / "odd.dist-info" / "METADATA").mkdir()
    (site / "old.egg-info" / "PKG-INFO").write_text("Name: old\nVersion: 2\n")
    (site / "older-3.egg-info").write_text("Name: older\nVersion: 3\n")
    assert installed(tree) == {"old": "2", "older": "3", "tide-pool": "1.0"}


def test_a_link_to_an_environment_is_removed_and_what_it_leads_to_is_left(tree: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tree)
    remove(link)
    assert not link.is_symlink()
    assert (tree / "lib" / "module.py").exists()
    assert tree.stat().st_mode & 0o055
