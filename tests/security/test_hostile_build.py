"""A project whose source distribution runs hostile code while it builds: it is told in words, and nothing else suffers."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moorage_images.bounds import processes
from moorage_images.build import BuildPlaces
from moorage_images.errors import BuildError
from tests.conftest import BUILDERS, Build
from tests.fakes.package_index import PackageIndex

MIB = 1 << 20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="builds have a uid of their own as root only")
Hostile = Callable[..., str]


def alive(places: BuildPlaces) -> list[int]:
    """The processes of builds."""
    accounts = places.accounts
    assert accounts is not None
    return processes(lambda fields: int(fields["Uid"].split()[0]) in accounts)


@pytest.fixture
def hostile(build: Build, places: BuildPlaces, index: PackageIndex) -> Hostile:
    """hostile(code, memory=...) -> why the build of a package failed that runs `code`. Another project builds as ever then."""

    def run(code: str, **bounds: float) -> str:
        index.source("mischief", "1.0", code)
        with pytest.raises(BuildError) as caught:
            build("mischief", project="pr-hostile", **bounds)
        assert build("tide==2.0", project="pr-honest").packages["tide"] == "2.0"
        assert not list(places.scratch.glob("build-*"))
        return caught.value.message

    return run


@needs_root
def test_a_build_that_forks_for_ever_is_ended_whole(hostile: Hostile, places: BuildPlaces) -> None:
    code = "import os, time\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.1)\n"
    assert "took longer than 5 s and was ended" in hostile(code, processes=60, time_s=5)
    assert alive(places) == []


@needs_root
def test_a_build_that_takes_all_memory_is_ended_with_the_number(hostile: Hostile) -> None:
    code = "import os, time\nos.fork()\nheld = [bytearray(b'x' * (8 << 20)) for _ in range(60)]\ntime.sleep(600)\n"
    assert "took more than 0.5 GiB of memory and was ended" in hostile(code, memory=512 * MIB)


def test_a_build_that_fills_the_disk_is_ended_before_it_is_full(hostile: Hostile, open_folder: Path) -> None:
    code = "import os\nwith open(os.path.join(os.environ['TMPDIR'], 'x'), 'wb') as file:\n    for _ in range(40000):\n"
    code += "        file.write(os.urandom(1 << 16)); file.flush()\n"
    least = shutil.disk_usage(open_folder).free - 256 * MIB
    reason = hostile(code, free_disk=least)
    assert "a build must leave" in reason
    assert "ask an admin to make room" in reason


def test_a_build_that_never_ends_is_ended_by_its_deadline(hostile: Hostile) -> None:
    assert "`build_timeout_s`" in hostile("import time\ntime.sleep(600)\n", time_s=4)


@needs_root
def test_what_a_build_leaves_in_shared_folders_is_removed(
    build: Build, places: BuildPlaces, index: PackageIndex
) -> None:
    code = """
import os, tempfile
for folder in ("/tmp", "/var/tmp", "/dev/shm"):
    if os.path.isdir(folder):
        inner = os.path.join(tempfile.mkdtemp(prefix="mischief-", dir=folder), "deep")
        os.mkdir(inner)
        os.symlink("/etc", os.path.join(inner, "link"))
"""
    index.source("mischief", "1.0", code)
    build("mischief", project="pr-hostile")
    left = [path for folder in ("/tmp", "/var/tmp", "/dev/shm") for path in Path(folder).glob("mischief-*")]
    assert left == []
    assert Path("/etc/passwd").exists()


@needs_root
def test_a_build_reaches_no_file_process_or_port_of_anybody(
    build: Build, index: PackageIndex, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = open_folder / "state" / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    (secrets / "vault-key").write_text("canary-of-the-vault")
    monkeypatch.setenv("MOORAGE_SERVICE_SECRET", "canary-of-the-environment")
    code = f"""
import glob, os, signal
seen, ended = [], []
for pattern in ("{secrets}/*", "{open_folder}/state/*/*", "/root/*", "/proc/*/environ", "/proc/*/mem", "/etc/shadow"):
    for path in [pattern, *glob.glob(pattern)]:
        try:
            if os.stat(path).st_uid != os.getuid() and b"canary" in open(path, "rb").read(1 << 16): seen.append(path)
        except OSError: pass
try: seen.append(open("{secrets}/vault-key").read())
except OSError: pass
try:
    for name in os.listdir("/proc"):
        if name.isdigit() and os.stat("/proc/" + name).st_uid != os.getuid():
            try: os.kill(int(name), 0); ended.append(name)
            except OSError: pass
except OSError: pass
extra.update(seen=seen, ended=ended, environment=[v for v in os.environ.values() if "canary" in v], groups=os.getgroups(), uid=os.getuid())
"""
    index.source("mischief", "1.0", code)
    record = build("mischief", project="pr-hostile")
    folder = next((open_folder / "state" / "environments" / record.digest).glob("lib/python*/site-packages"))
    found: dict[str, object] = {}
    exec((folder / "mischief.py").read_text(), found)
    told = found["FOUND"]
    assert isinstance(told, dict)
    assert (told["seen"], told["ended"], told["environment"]) == ([], [], [])
    assert told["uid"] in BUILDERS
