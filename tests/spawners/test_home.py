"""A project's files, put into a home by a child that runs as its user."""

import asyncio
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage_spawners.home import CopyFailed, prepare_home
from moorage_spawners.launch import Identity

PYTHON = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
UID = 20055


@pytest.fixture
def home() -> Iterator[Path]:
    """One that its user's uid can reach: pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory(prefix="moorage-home-") as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(home, UID, UID)
        yield home


@pytest.fixture
def identity(home: Path) -> Identity:
    return Identity(UID, UID, str(home)) if os.geteuid() == 0 else Identity(None, None, str(home))


def run(python: str, identity: Identity, folder: str, archive: str | None, also: list[str]) -> None:
    asyncio.run(prepare_home(python, identity, folder, archive, also))


def tar(path: Path, *members: tuple[str, bytes, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, kind, content in members:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            entry.size = len(content) if kind == tarfile.REGTYPE else 0
            entry.linkname = content.decode() if kind != tarfile.REGTYPE else ""
            archive.addfile(entry, io.BytesIO(content))
    return str(path)


def test_only_plain_files_below_the_folder_are_unpacked(home: Path, identity: Identity, tmp_path: Path) -> None:
    archive = tar(
        tmp_path / "files.tar",
        ("a/b.txt", tarfile.REGTYPE, b"content"),
        ("../escaped", tarfile.REGTYPE, b"x"),
        ("/tmp/moorage-escaped", tarfile.REGTYPE, b"x"),
        ("link", tarfile.SYMTYPE, b"/etc/passwd"),
        ("pipe", tarfile.FIFOTYPE, b""),
    )
    run(PYTHON, identity, str(home / "starter"), archive, [str(home / "x" / "y")])
    found = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
    assert found == ["starter", "starter/a", "starter/a/b.txt", "x", "x/y"]
    assert (home / "starter" / "a" / "b.txt").read_bytes() == b"content"
    assert (home / "starter").stat().st_mode & 0o777 == 0o700
    if identity.uid is not None:
        assert {path.stat().st_uid for path in home.rglob("*")} == {UID}


def test_a_folder_that_is_there_is_left_alone(home: Path, identity: Identity, tmp_path: Path) -> None:
    run(PYTHON, identity, str(home / "starter"), None, [])
    archive = tar(tmp_path / "files.tar", ("new.txt", tarfile.REGTYPE, b"new"))
    run(PYTHON, identity, str(home / "starter"), archive, [])
    assert list((home / "starter").iterdir()) == []


def test_a_broken_archive_is_a_sentence_and_leaves_nothing(home: Path, identity: Identity, tmp_path: Path) -> None:
    (tmp_path / "files.tar").write_bytes(b"no archive at all")
    with pytest.raises(CopyFailed, match="could not be copied into your home"):
        run(PYTHON, identity, str(home / "starter"), str(tmp_path / "files.tar"), [])
    assert list(home.iterdir()) == []
