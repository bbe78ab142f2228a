"""`moorage admin backup` and `restore`: whole, private, consistent while others write, and never over what is there."""

import fcntl
import io
import json
import os
import socket
import sqlite3
import stat
import subprocess
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from moorage import cli, folders
from moorage_service.context import Context
from moorage_service.projects import secrets
from moorage_service.recovery import backup, restore
from moorage_service.recovery.contents import CopyError
from moorage_service.settings import Settings
from moorage_service.store.tables import (
    UserRow,
)
from moorage_spawners.launch.marks import mark_of
from moorage_spawners.shim import tree
from tests.nesting import nesting
from tests.service.town import Town, open_state, serve_town  # noqa: F401
from tests.waiting import eventually

ALL = backup.parts_of(outputs=True, homes=True, environments=False)


@pytest.fixture
def furnished(context: Context) -> Context:
    """A state folder with something of each part in it."""
    state = context.settings.state
    (state / "settings.yaml").write_text("service: {max_workers: 3}\n")
    (state / "snapshots" / "sources").mkdir()
    (state / "snapshots" / "sources" / "sha256-abc").write_bytes(b"source")
    (state / "outputs" / "run-1").mkdir()
    (state / "outputs" / "run-1" / "run.log").write_text("a log")
    home = state / "homes" / "us-1"
    home.mkdir()
    (home / "notes.txt").write_text("mine")
    (home / "link").symlink_to("/etc/passwd")
    os.mkfifo(home / "pipe")
    hub = sqlite3.connect(state / "database" / "hub.sqlite")
    hub.execute("CREATE TABLE users (name TEXT)")
    hub.execute("INSERT INTO users VALUES ('ada')")
    hub.commit()
    hub.close()
    with context.database.begin() as session:
        user = UserRow(hub_name="ada", groups=[], created_at=context.clock())
        session.add(user)
        session.flush()
        secrets.put(session, context.vault, "user", user.id, "KEY", "opensesame", now=context.clock())
    return context


def copy_of(context: Context, folder: Path, **parts: bool) -> Path:
    wanted = {"outputs": True, "homes": True, "environments": False, **parts}
    return backup.make(context.settings, folder, backup.parts_of(**wanted))[0]


def names_in(copy: Path) -> set[str]:
    with tarfile.open(copy) as tar:
        return set(tar.getnames())


def test_a_copy_is_private_holds_what_is_needed_and_opens_every_secret(furnished: Context, tmp_path: Path) -> None:
    copy = copy_of(furnished, tmp_path)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    names = names_in(copy)
    assert {
        "manifest.json", "database/service.sqlite", "database/hub.sqlite", "settings.yaml", "secrets/vault-key",
        "snapshots/sources/sha256-abc", "outputs/run-1/run.log", "homes/us-1/notes.txt", "homes/us-1/link",
    } <= names  # fmt: skip
    assert "homes/us-1/pipe" not in names
    fresh = tmp_path / "elsewhere"
    restore.put_back(fresh, copy)
    made = make_context_on(fresh)
    with made.database.read() as session:
        user = session.scalars(select(UserRow)).one()
        assert secrets.values(session, made.vault, user_id=user.id, project_id="") == {"KEY": "opensesame"}
    made.database.close()
    assert os.readlink(fresh / "homes" / "us-1" / "link") == "/etc/passwd"
    assert (fresh / "settings.yaml").read_text() == "service: {max_workers: 3}\n"
    assert sqlite3.connect(fresh / "database" / "hub.sqlite").execute("SELECT name FROM users").fetchall() == [("ada",)]


def make_context_on(state: Path) -> Context:
    from moorage_service.context import make_context

    made = make_context(Settings(state=state, seed_starter=False))
    made.hub.close()
    return made


def test_a_home_with_sockets_and_folders_without_end_keeps_no_other_from_being_copied(
    furnished: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = furnished.settings.state / "homes"
    (homes / "us-2").mkdir()
    (homes / "us-2" / "notes.txt").write_text("theirs")
    monkeypatch.chdir(homes / "us-1")  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
    with nesting() as nest:
        nest(homes / "us-1")
        check_copy(furnished, homes, tmp_path)


def check_copy(furnished: Context, homes: Path, tmp_path: Path) -> None:
    path, manifest = backup.make(furnished.settings, tmp_path, ALL)
    names = names_in(path)
    assert {"homes/us-1/notes.txt", "homes/us-2/notes.txt", "homes/us-1/nested/nested"} <= names
    assert "homes/us-1/s" not in names
    assert [said.rpartition(": ")[2] for said in manifest.left_out] == ["it lies too deep"]
    fresh = tmp_path / "elsewhere"
    assert restore.put_back(fresh, path).manifest.left_out == manifest.left_out
    assert (fresh / "homes" / "us-2" / "notes.txt").read_text() == "theirs"
    assert not list(fresh.glob("restoring-*"))
    folders.remove(fresh)


def test_a_file_that_is_swapped_while_it_is_copied_is_left_out_and_said(
    furnished: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = furnished.settings.state / "homes" / "us-1" / "notes.txt"
    seen = os.stat

    def swap(path: Any, **where: Any) -> os.stat_result:
        found = seen(path, **where)
        if str(path) == notes.name:
            notes.unlink()
            notes.symlink_to("/etc/passwd")
        return found

    monkeypatch.setattr(os, "stat", swap)
    _, manifest = backup.make(furnished.settings, tmp_path, ALL)
    assert manifest.left_out == ["homes/us-1/notes.txt: Too many levels of symbolic links"]


def test_a_copy_whose_sizes_lead_back_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a")
    first = member.tobuf(tarfile.GNU_FORMAT)
    member.size = -512
    (tmp_path / "copy.tar").write_bytes(first + member.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(CopyError, match="below zero"):
        restore.read_manifest(tmp_path / "copy.tar")


def test_homes_and_outputs_are_left_out_as_asked(furnished: Context, tmp_path: Path) -> None:
    names = names_in(copy_of(furnished, tmp_path, homes=False, outputs=False))
    assert not any(name.startswith(("homes", "outputs")) for name in names)


def test_a_copy_made_while_others_write_is_one_moments(furnished: Context, tmp_path: Path) -> None:
    """Each transaction writes two rows; no copy may hold one of them without the other."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            with furnished.database.begin() as session:
                for half in ("a", "b"):
                    session.add(UserRow(hub_name=f"u{number}{half}", groups=[], created_at=furnished.clock()))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copies = [copy_of(furnished, tmp_path / f"{number}.tar") for number in range(3)]
    finally:
        stop.set()
        writer.join()
    for number, copy in enumerate(copies):
        fresh = tmp_path / f"state-{number}"
        restore.put_back(fresh, copy)
        rows = sqlite3.connect(fresh / "database" / "service.sqlite").execute(
            "SELECT hub_name FROM users WHERE hub_name LIKE 'u%'"
        )
        found = {name for (name,) in rows}
        assert all(name[:-1] + ("b" if name.endswith("a") else "a") in found for name in found)


def test_a_copy_never_replaces_a_file_and_leaves_nothing_behind_when_it_fails(
    furnished: Context, tmp_path: Path
) -> None:
    target = tmp_path / "copies" / "one.tar"
    with pytest.raises(CopyError, match="no folder"):
        copy_of(furnished, target)
    target.parent.mkdir()
    target.write_text("something else")
    with pytest.raises(CopyError, match="never replaces"):
        copy_of(furnished, target)
    assert target.read_text() == "something else"
    assert [each.name for each in target.parent.iterdir()] == ["one.tar"]
    assert not list((furnished.settings.state / "database").glob(".copy-*"))


def test_nothing_is_put_back_while_moorage_runs(furnished: Context, tmp_path: Path) -> None:
    copy, state = copy_of(furnished, tmp_path), furnished.settings.state
    with (state / "database" / "up.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CopyError, match="Moorage runs on"):
            restore.put_back(state, copy)


@pytest.mark.parametrize("known", ["written down", "by its mark"])
def test_nothing_is_put_back_while_what_a_killed_supervisor_left_runs(
    furnished: Context, tmp_path: Path, known: str
) -> None:
    copy, state = copy_of(furnished, tmp_path), furnished.settings.state
    env = {"PATH": os.defpath}
    if known == "by its mark":
        env[tree.COOKIE] = mark_of(state)
    left = subprocess.Popen(["sleep", "1000"], env=env)
    start = eventually(lambda: tree.started(left.pid))
    if known == "written down":
        boot = tree.boot()
        listed = {"service": [left.pid, start, boot], "hub": [left.pid, "1", boot], "supervisor": [1, "1"]}
        (state / "database" / "processes.json").write_text(json.dumps(listed))
    eventually(lambda: known == "written down" or tree.marked(mark_of(state), None))
    before = untouched(state)
    with pytest.raises(CopyError, match=rf"there still run the processes {left.pid}.*`make up`.*`make down`"):
        restore.put_back(state, copy)
    assert untouched(state).keys() - before.keys() <= {str(state / "database" / "up.lock")}
    left.kill()
    left.wait()
    furnished.database.close()
    restore.put_back(state, copy)


def changed(copy: Path, target: Path, name: str, content: bytes, *, kind: bytes = tarfile.REGTYPE) -> Path:
    """The copy with one member replaced or, if it was not there, added."""
    with tarfile.open(copy) as source, tarfile.open(target, "w") as made:
        for entry in source:
            if entry.name != name:
                made.addfile(entry, source.extractfile(entry) if entry.isreg() else None)
        entry = tarfile.TarInfo(name)
        entry.size, entry.type = (len(content), kind) if kind == tarfile.REGTYPE else (0, kind)
        entry.linkname = content.decode() if kind == tarfile.SYMTYPE else ""
        made.addfile(entry, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    return target


def untouched(state: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_ino for path in state.rglob("*")}


def test_a_damaged_cut_or_hostile_copy_changes_nothing(furnished: Context, tmp_path: Path) -> None:
    copy, state = copy_of(furnished, tmp_path), furnished.settings.state
    (state / "database" / "up.lock").touch()
    before = untouched(state)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    newer = replace(restore.read_manifest(copy), schema="9999")
    bad = [
        (cut, "no whole copy"),
        (tmp_path / "missing.tar", "no file"),
        (changed(copy, tmp_path / "1.tar", "secrets/vault-key", b"other"), "not what it was"),
        (changed(copy, tmp_path / "2.tar", "homes/../../evil", b"x"), "no part of Moorage"),
        (
            changed(copy, tmp_path / "3.tar", "manifest.json", newer.to_json()),
            "newer than this program knows",
        ),
        (changed(copy, tmp_path / "4.tar", "homes/us-1", b"/etc", kind=tarfile.SYMTYPE), None),
    ]
    for number, (each, words) in enumerate(bad):
        with pytest.raises(CopyError, match=words):
            restore.put_back(state, each)
        assert untouched(state) == before, number


def test_what_is_there_is_moved_aside_and_what_is_newer_of_users_and_runs_stays(
    furnished: Context, tmp_path: Path
) -> None:
    copy, state = copy_of(furnished, tmp_path), furnished.settings.state
    (state / "homes" / "us-1" / "notes.txt").write_text("newer")
    (state / "outputs" / "run-2").mkdir()
    (state / "snapshots" / "sources" / "sha256-abc").unlink()
    with furnished.database.begin() as session:
        session.add(UserRow(hub_name="bob", groups=[], created_at=furnished.clock()))
    furnished.database.close()
    outcome = restore.put_back(state, copy)
    assert outcome.aside is not None
    assert (state / "homes" / "us-1" / "notes.txt").read_text() == "newer"
    assert (state / "outputs" / "run-2").is_dir()
    assert (state / "snapshots" / "sources" / "sha256-abc").read_bytes() == b"source"
    aside = sqlite3.connect(outcome.aside / "database" / "service.sqlite")
    assert {name for (name,) in aside.execute("SELECT hub_name FROM users")} == {"ada", "bob"}
    assert (outcome.aside / "secrets" / "vault-key").exists()
    present = sqlite3.connect(state / "database" / "service.sqlite")
    assert {name for (name,) in present.execute("SELECT hub_name FROM users")} == {"ada"}


def test_the_commands_say_what_they_did_and_what_to_do_next(
    furnished: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = furnished.settings.state
    target = tmp_path / "copy.tar"
    assert cli.run(["admin", "backup", str(target), "--no-outputs", "--state", str(state)]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {target}" in said
    assert "Left out: outputs, homes, environments." in said
    assert "It holds the key that opens every stored secret." in said
    assert cli.run(["admin", "backup", str(target), "--state", str(state)]) == 1
    assert "never replaces" in capsys.readouterr().err
    furnished.database.close()
    assert cli.run(["admin", "restore", str(target), "--state", str(state)]) == 0
    said = capsys.readouterr().out
    assert "What was there lies in" in said
    assert "make up" in said
    assert cli.run(["admin", "restore", str(tmp_path / "none.tar"), "--state", str(state)]) == 1
    assert "There is no file" in capsys.readouterr().err


# An older copy, put back under what runs.
