"""A project's files, put into a home by a child that runs as its user."""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moorage_spawners.home import CopyFailed, prepare_home, runtime_folder
from moorage_spawners.launch import Identity
from moorage_spawners.shim import tree
from tests.nesting import nesting

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


def run(python: str, identity: Identity, folder: str, archive: str | None, also: list[str]) -> str | None:
    return asyncio.run(prepare_home(python, identity, folder, archive, also))


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


def test_folders_without_end_that_lie_beside_are_in_nobodys_way(home: Path, identity: Identity, tmp_path: Path) -> None:
    left = home / "starter.partial-1"
    left.mkdir()
    if identity.uid is not None:
        os.chown(left, identity.uid, identity.uid)
    with nesting() as nest:
        nest(left)
        archive = tar(tmp_path / "files.tar", ("a.txt", tarfile.REGTYPE, b"content"))
        assert run(PYTHON, identity, str(home / "starter"), archive, []) is None
    assert (home / "starter" / "a.txt").read_bytes() == b"content"


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


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and acts as another uid")


@contextmanager
def mounted(home: Path, *options: str) -> Iterator[None]:
    """A small disk of the user's own at `home`."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join((f"uid={UID}", f"gid={UID}", "mode=0700", *options)), "none", home],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", home], check=True)


def fill(home: Path) -> None:
    with contextlib.suppress(OSError):
        (home / "big").write_bytes(b"x" * (1 << 20))


@as_root
def test_a_full_home_is_told_and_the_server_starts_all_the_same(home: Path, identity: Identity) -> None:
    """Else its owner could never make room."""
    with mounted(home, "size=64k", "nr_inodes=20"):
        (home / "starter").mkdir()
        fill(home)
        for number in range(20):
            with contextlib.suppress(OSError):
                (home / f"file-{number}").touch()
        hindrance = run(PYTHON, identity, str(home / "starter"), None, [str(home / ".moorage" / "starter")])
    assert hindrance is not None
    assert hindrance.startswith("Your home can't be written (No space left on device: ")
    assert hindrance.endswith("Remove files that you no longer need, or ask an admin for more space.")


@as_root
def test_a_project_that_a_full_home_does_not_take_is_refused_with_words(
    home: Path, identity: Identity, tmp_path: Path
) -> None:
    archive = tar(tmp_path / "files.tar", ("data.bin", tarfile.REGTYPE, b"x" * 100_000))
    with mounted(home, "size=32k"):
        with pytest.raises(CopyFailed, match=r"No space left on device.* Remove files that you no longer need"):
            run(PYTHON, identity, str(home / "starter"), archive, [])
        assert list(home.iterdir()) == []


@as_root
def test_a_read_only_home_is_told_with_words(home: Path, identity: Identity) -> None:
    with mounted(home, "ro"), pytest.raises(CopyFailed, match="Read-only file system"):
        run(PYTHON, identity, str(home / "starter"), None, [])


def test_a_file_in_the_projects_place_is_left_alone(home: Path, identity: Identity) -> None:
    (home / "starter").write_text("mine")
    with pytest.raises(CopyFailed, match=r"Not a directory: .*/starter\)\. Look at what is in its place"):
        run(PYTHON, identity, str(home / "starter"), None, [])
    assert [path.name for path in home.iterdir()] == ["starter"]
    assert (home / "starter").read_text() == "mine"


def test_what_a_killed_copy_left_is_removed(home: Path, identity: Identity) -> None:
    left = home / "starter.partial-1"
    left.mkdir()
    if identity.uid is not None:
        os.chown(left, UID, UID)
    run(PYTHON, identity, str(home / "starter"), None, [])
    assert [path.name for path in home.iterdir()] == ["starter"]


@as_root
def test_a_link_to_a_place_of_others_is_followed_by_nobody_with_more_rights(home: Path, identity: Identity) -> None:
    """Each of them is followed by a process of the user, who can't write there."""
    with tempfile.TemporaryDirectory(prefix="moorage-other-") as folder:
        other = Path(folder)
        other.chmod(0o755)
        (home / ".moorage").symlink_to(other)
        (home / "starter").symlink_to(other / "new")
        with pytest.raises(CopyFailed):
            run(PYTHON, identity, str(home / "starter"), None, [])
        (home / "starter").unlink()
        hindrance = run(PYTHON, identity, str(home / "starter"), None, [str(home / ".moorage" / "starter")])
        assert "Permission denied" in str(hindrance)
        assert list(other.iterdir()) == []
        assert other.stat().st_uid == 0


@as_root
def test_the_servers_own_folder_is_never_reached_through_a_link(tmp_path: Path, identity: Identity) -> None:
    (tmp_path / "scratch").mkdir()
    folder = runtime_folder(tmp_path, "nb-1", identity)
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (UID, 0o700)
    assert runtime_folder(tmp_path, "nb-1", identity) == folder
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "scratch" / "nb-2").symlink_to(victim)
    with pytest.raises(CopyFailed, match="no room for the notebook server's own files"):
        runtime_folder(tmp_path, "nb-2", identity)
    assert victim.stat().st_uid == 0


def test_a_copy_that_nobody_waits_for_any_more_ends(home: Path, identity: Identity, tmp_path: Path) -> None:
    """The hub gives up a start that takes too long: what copies for it must not go on."""
    os.mkfifo(tmp_path / "files.tar")
    keeps_open = os.open(tmp_path / "files.tar", os.O_RDWR)

    before = tree.descendants(os.getpid())

    async def give_up() -> None:
        copying = asyncio.create_task(
            prepare_home(PYTHON, identity, str(home / "starter"), str(tmp_path / "files.tar"), [])
        )
        while not os.listdir(home):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying

    asyncio.run(give_up())
    os.close(keeps_open)
    assert tree.descendants(os.getpid()) <= before
