"""Folders of any depth, with anything in them, are walked and removed, and no link is followed."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage import folders
from tests.nesting import DEPTH, nest_below, nesting


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    top = tmp_path / "tree"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "kept").mkdir()
    (top / "a" / "b" / "file").write_text("")
    (top / "c").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("")
    (top / "a" / "link").symlink_to(tmp_path / "outside")
    with nesting() as nest:
        nest(top / "c")
        yield top


def test_a_tree_goes_however_deep_it_is_and_what_its_links_lead_to_stays(tree: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert folders.remove(tree)
    assert not tree.exists()
    assert (tmp_path / "outside" / "mine").exists()
    assert len(os.listdir("/proc/self/fd")) == before
    assert folders.remove(tree)  # nothing there: nothing


def test_few_descriptors_are_enough_for_a_deep_tree(tree: Path) -> None:
    """In a process of its own, that may open no more."""
    code = f"""
import resource, sys
from pathlib import Path
from moorage import folders
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(sum(1 for _ in folders.walk(Path({str(tree)!r}))), folders.remove(Path({str(tree)!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(DEPTH + 5), "True"], done.stderr


def test_a_walk_goes_from_the_top_down_and_leaves_out_what_is_taken_out(tree: Path) -> None:
    seen = {}
    for path, inner, others, descriptor in folders.walk(tree):
        seen[path] = (sorted(inner), others)
        assert sorted(os.listdir(descriptor)) == sorted(inner + others)
        if path == "":
            inner.remove("c")
    assert seen == {"": (["a", "c"], []), "a": (["b", "kept"], ["link"]), "a/b": ([], ["file"]), "a/kept": ([], [])}


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc"), lambda path: path.write_text(""), os.mkfifo])
def test_what_is_no_folder_goes_itself(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = tmp_path / "odd"
    make(path)
    assert folders.remove(path)
    assert not path.is_symlink()
    assert Path("/etc/passwd").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs as others")
def test_who_owns_a_folder_without_permissions_can_remove_it(tree: Path) -> None:
    for path in (tree / "a" / "b", tree / "a", tree):
        path.chmod(0)
    for _, _, others, descriptor in folders.walk(tree):
        os.chown(descriptor, 65534, 65534)
        for name in others:
            os.chown(name, 65534, 65534, dir_fd=descriptor, follow_symlinks=False)
    tree.parent.chmod(0o777)
    for folder in tree.parents:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(0o711)

    def drop() -> None:
        os.setgid(65534)
        os.setuid(65534)

    done = os.fork()
    if done == 0:
        drop()
        os._exit(0 if folders.remove(tree, ignore_errors=True) else 1)
    assert os.waitpid(done, 0)[1] == 0
    assert not tree.exists()


def test_what_can_not_go_keeps_nothing_else_and_is_said(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes = os.unlink

    def stuck(name: str, *, dir_fd: int) -> None:
        if name == "link":
            raise PermissionError(1, "Operation not permitted")
        goes(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", stuck)
    assert not folders.remove(tree, ignore_errors=True)
    assert os.listdir(tree) == ["a"]
    assert os.listdir(tree / "a") == ["link"]
    with pytest.raises(PermissionError):
        folders.remove(tree)


def test_a_folder_that_is_moved_away_deep_down_leads_nowhere_else(tmp_path: Path) -> None:
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    top.mkdir()
    (elsewhere / "mine").mkdir(parents=True)
    nest_below(top, 100)
    deep = top.joinpath(*["nested"] * 80)
    walk = folders.walk(top)
    for path, _, _, _ in walk:
        if path.count("/") == 98:
            deep.rename(elsewhere / "moved")
            break
    with pytest.raises(OSError, match="moved"):
        list(walk)
    assert (elsewhere / "mine").exists()
