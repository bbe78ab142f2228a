"""Environments are built once, by nobody in particular, and cannot be changed afterwards. uv and the processes are real."""

import fcntl
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from moorage_images import environments
from moorage_images.build import MACHINE_LOCK, BuildPlaces
from moorage_images.environments import EnvironmentRecord
from moorage_images.errors import BuildCancelledError, BuildError
from tests.conftest import Build
from tests.fakes.package_index import PackageIndex
from tests.waiting import eventually

ROOT = os.geteuid() == 0
SPY = """
import os, subprocess
extra["uid"] = os.getuid()
extra["groups"] = os.getgroups()
extra["variables"] = sorted(os.environ)
extra["readable"] = [path for path in {paths!r} if os.access(path, os.R_OK)]
extra["writable"] = [path for path in {paths!r} if os.access(path, os.W_OK)]
extra["daemon"] = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid
"""


def ask(places: BuildPlaces, record: EnvironmentRecord, code: str) -> str:
    """Runs code in the environment as somebody who owns nothing of it."""
    python = environments.path_of(places.environments, record.digest) / "bin" / "python"
    who = {"user": 65534, "group": 65534, "extra_groups": []} if ROOT else {}
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, cwd="/", env={}, **who)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def alive(pid: int) -> bool:
    """A zombie, which whoever adopted it has not reaped yet, is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def left(places: BuildPlaces) -> list[str]:
    return sorted(path.name for path in places.environments.iterdir() if path.is_dir())


def test_anybody_can_use_it_and_nobody_can_change_it(build: Build, places: BuildPlaces) -> None:
    record = build("tide==1.0")
    assert ask(places, record, "import tide, moorage, ipykernel; print(tide.HEIGHT)") == "1"
    assert record.packages["tide"] == "1.0"
    assert {"moorage", "ipykernel"} <= set(record.packages)
    folder = environments.path_of(places.environments, record.digest)
    for path in (folder, *folder.rglob("*")):
        seen = path.lstat()
        assert seen.st_uid == os.geteuid()
        assert path.is_symlink() or not seen.st_mode & 0o222, path
    assert (folder / "lib").glob("python3*/site-packages/__pycache__/tide.*.pyc")
    assert json.loads((folder / environments.RECORD).read_text())["python"] == record.python
    assert environments.read(places.environments, record.digest) == record


def test_the_same_packages_are_built_once_for_all_projects(build: Build, places: BuildPlaces) -> None:
    first = build("tide==1.0", project="pr-1")
    lines: list[str] = []
    second = build("tide==1.0", project="pr-2", log=lines.append)
    assert second == first
    assert any("is there already" in line for line in lines)
    assert build("tide==2.0").digest != first.digest
    assert len(left(places)) == 2


def test_what_runs_code_to_build_is_its_projects_alone(build: Build, index: PackageIndex) -> None:
    index.source("brine", "1.0", "")
    lines: list[str] = []
    first = build("brine", project="pr-1", log=lines.append)
    assert first.from_source
    assert any("for this project alone" in line for line in lines)
    assert build("brine", project="pr-2").digest != first.digest
    assert build("brine", project="pr-1") == first


def test_a_packages_code_finds_nothing_to_take(
    build: Build, places: BuildPlaces, index: PackageIndex, monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    monkeypatch.setenv("CANARY", "a secret of the service")
    build("tide==1.0")  # the shared cache is there
    private = open_folder / "state" / "secrets"
    private.mkdir(mode=0o700)
    (private / "key").write_text("x")
    index.source("brine", "1.0", SPY.format(paths=[str(private), str(places.cache), str(places.environments)]))
    record = build("brine")
    found = json.loads(ask(places, record, "import brine, json; print(json.dumps(brine.FOUND))"))
    assert "CANARY" not in found["variables"]
    assert not {name for name in found["variables"] if "TOKEN" in name or "MOORAGE" in name}
    if places.accounts is not None:
        assert found["uid"] in places.accounts[1:]
        assert found["groups"] in ([], [found["uid"]])
        assert found["readable"] == [str(places.environments)]
        assert found["writable"] == []
        assert not alive(found["daemon"])  # what it left behind was ended
    else:
        os.kill(found["daemon"], 9)


def test_a_failed_build_says_why_and_leaves_the_last_good_one(build: Build, places: BuildPlaces) -> None:
    good = build("tide==1.0")
    with pytest.raises(BuildError, match=r"tide.*3\.0.*Correct `packages`"):
        build("tide==3.0")
    assert left(places) == [good.digest]
    assert ask(places, good, "import tide; print(tide.HEIGHT)") == "1"
    assert not list(places.scratch.glob("build-*"))


def test_an_environment_whose_kernel_cannot_start_is_never_given_out(
    build: Build, places: BuildPlaces, index: PackageIndex
) -> None:
    index.wheel("ipykernel", "8.0.0", {"ipykernel/__init__.py": "raise ImportError('hostile')\n"})
    with pytest.raises(BuildError, match="hostile"):
        build("tide==1.0")
    assert left(places) == []


def test_a_cancelled_build_ends_at_once_and_leaves_nothing(
    build: Build, places: BuildPlaces, index: PackageIndex, open_folder: Path
) -> None:
    started = open_folder / "started"
    started.mkdir()
    started.chmod(0o777)
    index.source("brine", "1.0", f"import time; open({str(started / 'yes')!r}, 'w').close(); time.sleep(600)")
    cancel, ended = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            build("brine", cancel=cancel)
        except BuildCancelledError as error:
            errors.append(error)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    eventually(lambda: (started / "yes").exists(), what="the package's build")
    cancel.set()
    assert ended.wait(30)
    assert len(errors) == 1
    assert left(places) == []
    assert not list(places.scratch.glob("build-*"))


def test_a_build_waits_for_another_and_can_be_cancelled_meanwhile(build: Build, places: BuildPlaces) -> None:
    places.environments.mkdir()
    lock = places.environments / ".building" if places.accounts is None else MACHINE_LOCK
    cancel = threading.Event()

    def log(line: str) -> None:
        if line.startswith("Waiting for another build"):
            cancel.set()

    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BuildCancelledError, match="waited for another"):
            build("tide==1.0", log=log, cancel=cancel)
    assert build("tide==1.0").packages["tide"] == "1.0"


def test_what_a_killed_build_left_is_swept(build: Build, places: BuildPlaces) -> None:
    good = build("tide==1.0")
    half = places.environments / ("0" * 40)
    (half / "lib").mkdir(parents=True)
    (half / "lib").chmod(0o555)
    assert environments.sweep(places.environments) == [half.name]
    assert left(places) == [good.digest]


RECORDED = EnvironmentRecord(
    digest="a" * 40, python="3.11.2", architecture="x86_64", created_at="2026-01-01T00:00:00Z", from_source=False,
    packages={"tide": "1.0"}, lock="tide==1.0\n",
)  # fmt: skip


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A complete environment, of its record and a file."""
    folder = environments.path_of(tmp_path, RECORDED.digest)
    folder.mkdir()
    (folder / "file").touch()
    environments.write(tmp_path, RECORDED)
    return folder


@pytest.mark.parametrize(
    "content", ["", "\0" * 100, '{"digest": "aaa', "[]"], ids=["empty", "zeros", "cut short", "no object"]
)
def test_a_record_that_a_power_cut_tore_is_none_and_its_environment_is_swept(written: Path, content: str) -> None:
    root = written.parent
    assert environments.read(root, RECORDED.digest) == RECORDED
    (written / environments.RECORD).chmod(0o644)
    (written / environments.RECORD).write_text(content)
    assert environments.read(root, RECORDED.digest) is None
    assert environments.sweep(root) == [RECORDED.digest]
    assert not written.exists()


def test_a_record_of_another_version_is_read_as_far_as_it_is_known_and_stays(written: Path) -> None:
    record, root = written / environments.RECORD, written.parent
    values = json.loads(record.read_text())
    record.chmod(0o644)
    record.write_text(json.dumps({**values, "more": 1}))
    assert environments.read(root, RECORDED.digest) == RECORDED
    del values["python"]
    record.write_text(json.dumps(values))
    assert environments.read(root, RECORDED.digest) is None
    assert environments.sweep(root) == []


def test_all_of_it_is_on_the_disk_before_its_record_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but a power cut would show it: so it is the order of what the kernel is asked for."""
    done: list[str] = []
    fsync, rename, sync_all = os.fsync, Path.rename, environments._sync_all

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")

    def all_synced(descriptor: int) -> None:
        sync_all(descriptor)
        done.append("sync all")

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"name {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(environments, "_sync_all", all_synced)
    folder = environments.path_of(tmp_path, RECORDED.digest)
    folder.mkdir()
    environments.write(tmp_path, RECORDED)
    lock, record = environments.LOCK, environments.RECORD
    assert done == [
        "sync all", f"sync .{lock}.new", f"name {lock}", f"sync .{record}.new", f"name {record}", f"sync {folder.name}",
    ]  # fmt: skip
    assert folder.stat().st_mode & 0o777 == 0o555
