"""The set-up: which interpreter, which locks, and that it changes nothing that runs."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bootstrap.__main__ import main, refuse_second
from bootstrap.environments import OWN, remove_unused
from bootstrap.interpreter import Interpreter, all_can_read, ask, choose, copied
from bootstrap.lock import GROUPS, TOOLS, is_current
from bootstrap.places import ROOT, Places, SetupError, prepare, state_folder
from bootstrap.trust import trust_the_machine
from bootstrap.uv_tool import find_pip
from tests.waiting import eventually

LOCKS = [ROOT / "locks" / f"{name}.txt" for name in (*GROUPS, *TOOLS)]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_answers_the_requirements_and_names_no_address(lock: Path) -> None:
    assert is_current(lock), f"{lock.name} is not what the pyproject files ask for; run `make lock`"
    text = lock.read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links|@ ", text)
    for line in text.splitlines():
        assert line.startswith(("#", " ")) or "==" in line, line


def test_the_proxys_lock_names_no_index() -> None:
    text = (ROOT / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert '"integrity"' in text


def test_the_locks_leave_out_what_doubles_the_start_time() -> None:
    for lock in LOCKS:
        for line in lock.read_text().splitlines():
            assert not line.startswith("rfc3987-syntax") or "sys_platform == 'never'" in line


def test_a_server_environment_brings_no_engine() -> None:
    names = {
        line.partition("==")[0] for line in (ROOT / "locks" / "server.txt").read_text().splitlines() if "==" in line
    }
    assert names.isdisjoint({"ray", "dask", "distributed", "scikit-learn", "sqlalchemy-utils"})


def test_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOORAGE_HOME", str(tmp_path / "mine"))
    assert state_folder() == tmp_path / "mine"
    monkeypatch.delenv("MOORAGE_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_folder() == Path("/var/lib/moorage")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_folder() == ROOT / ".moorage"


def test_a_state_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="Set MOORAGE_HOME to a folder that you may write to"):
        prepare(tmp_path / "file" / "state")


def test_an_interpreter_in_a_private_folder_is_not_for_all(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    program = tmp_path / "private" / "python"
    program.touch(mode=0o755)
    assert not all_can_read(program)
    assert all_can_read(Path("/bin/sh"))
    assert not all_can_read(tmp_path / "missing")


def test_the_interpreter_chosen_runs_and_as_root_all_can_read_it(tmp_path: Path) -> None:
    found = choose(Places(tmp_path))
    assert found.version >= (3, 11)
    assert ask(found.path) is not None
    if os.geteuid() == 0:
        assert all_can_read(found.path.resolve())
        assert all_can_read(found.stdlib / "os.py")
    assert ask(Path("/bin/true")) is None


def test_no_interpreter_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = Interpreter(Path("/usr/bin/python3"), (3, 9, 2), Path("/usr"), Path("/usr/lib/python3.9"))
    monkeypatch.setattr("bootstrap.interpreter.ask", lambda _path: old)
    with pytest.raises(SetupError, match="No Python from"):
        choose(Places(tmp_path))


def test_a_python_without_pip_is_a_sentence_where_apt_may_not_help(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bootstrap.uv_tool._works", lambda _argv: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match=r"neither pip nor ensurepip.*apt-get install python3-venv"):
        find_pip(Places(tmp_path))


def test_a_private_interpreter_is_copied_to_where_all_can_read_it(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="moorage-python-") as folder:
        own = ask(Path(sys.executable).resolve())
        assert own is not None
        prefix = tmp_path / "private"  # a small one: its program, its library and nothing else
        (prefix / "bin").mkdir(parents=True)
        (prefix / "lib").mkdir()
        program = prefix / "bin" / f"python{own.version[0]}.{own.version[1]}"
        shutil.copy(own.path.resolve(), program)
        unwanted = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "test", "config-*")
        shutil.copytree(own.stdlib, prefix / "lib" / own.stdlib.name, ignore=unwanted, symlinks=False)
        private = Interpreter(program, own.version, prefix, prefix / "lib" / own.stdlib.name)
        Path(folder).chmod(0o755)
        found = copied(private, Places(Path(folder)))
        assert found.path.is_relative_to(folder)
        assert found.stdlib.is_relative_to(folder)
        assert all_can_read(found.path)
        assert all_can_read(found.stdlib / "os.py")
        assert copied(private, Places(Path(folder))) == found


def test_nothing_is_set_up_anew_below_a_running_moorage(tmp_path: Path) -> None:
    refuse_second(tmp_path)
    (tmp_path / "database").mkdir()
    with (tmp_path / "database" / "up.lock").open("w") as lock:
        refuse_second(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SetupError, match="Moorage runs already on"):
            refuse_second(tmp_path)


def test_an_older_environment_stays_as_long_as_something_runs_from_it(tmp_path: Path) -> None:
    places = prepare(tmp_path / "state")
    for name in OWN:
        for version in ("1", "2"):
            (places.state / "platform" / f"{name}-{tmp_path.name}-{version}" / "bin").mkdir(parents=True)
        places.environment(name).symlink_to(places.state / "platform" / f"{name}-{tmp_path.name}-2")
    old = places.state / "platform" / f"server-{tmp_path.name}-1"
    program = old / "bin" / "sleep"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as running:
        try:
            # Its command line shows a moment after its start.
            eventually(lambda: str(program) in Path(f"/proc/{running.pid}/cmdline").read_text())
            remove_unused(places)
            left = sorted(path.name.removeprefix(f"server-{tmp_path.name}-") for path in old.parent.iterdir())
            assert left == ["1", "2", f"control-{tmp_path.name}-2"]
        finally:
            running.kill()
    remove_unused(places)
    assert not old.exists()


@pytest.mark.parametrize(("command", "words"), [("fly", "There is no command 'fly'"), ("down", "Nothing is set up in")])
def test_bad_commands_are_sentences(command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOORAGE_HOME", str(tmp_path))
    with pytest.raises(SetupError, match=words):
        main([command])


def test_downloads_trust_whom_the_machine_trusts(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.crt"
    environment = {"PIP_CERT": "/mine.crt"}
    trust_the_machine(environment, (str(bundle),))
    assert environment == {"PIP_CERT": "/mine.crt"}  # a machine without a list: each program's own
    bundle.touch()
    trust_the_machine(environment, (str(bundle),))
    assert environment == {
        "PIP_CERT": "/mine.crt", "UV_SYSTEM_CERTS": "true", "NODE_EXTRA_CA_CERTS": str(bundle)
    }  # fmt: skip


@pytest.mark.parametrize("target", ["up", "down", "link", "user", "setup", "test", "lock"])
def test_every_command_is_a_target_of_make(target: str) -> None:
    argv = ["make", "--dry-run", target, "ARGS=add ada"]
    said = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"-m bootstrap {target}{' add ada' if target == 'user' else ''}" in said


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import bootstrap.__main__"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
