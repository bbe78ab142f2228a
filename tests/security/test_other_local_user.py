"""A whole Moorage with two users' notebooks, and another account of the machine that looks around."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.person import Person
from tests.faults.whole import Whole
from tests.images.places import open_python

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="other accounts can be played by root only")
NOBODY = 65534
# What everybody may read of a state folder: programs and environments, no word of anybody.
OPEN = ("environments", "jupyter", "control", "server", "node", "platform", "tools", "wheels")

LOOK = """
import json, os, socket, sys
state, pids = sys.argv[1], json.loads(sys.argv[2])
read, connected = [], []
for folder, folders, files in os.walk(state):
    for name in files:
        path = os.path.join(folder, name)
        try:
            open(path, "rb").read(1)
        except OSError:
            continue
        read.append(os.path.relpath(path, state))
    for name in [*files, *folders]:
        path = os.path.join(folder, name)
        try:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(path)
        except OSError:
            continue
        connected.append(path)
for pid in pids:
    for name in ("environ", "mem", "fd/0", "cwd/.", "root/."):
        try:
            os.stat(f"/proc/{pid}/{name}") if name.endswith(".") else open(f"/proc/{pid}/{name}", "rb").read(1)
        except OSError:
            continue
        read.append(f"/proc/{pid}/{name}")
print(json.dumps([read, connected]))
"""


@pytest.fixture
def ada_and_bob(proxy_script: Path, server_python: Path) -> Iterator[tuple[Whole, list[Person]]]:
    with Whole.make(proxy_script, server_python, light=["bob"], heavy=["ada"]) as whole:
        people = [whole.person(name) for name in ("ada", "bob")]
        for person in people:
            person.ask()
        for person in people:
            assert person.until("ready", "failed", within=180)["phase"] == "ready"
        yield whole, people
        for person in people:
            person.close()


def programs(whole: Whole) -> list[psutil.Process]:
    """Hub, proxy, service, and each notebook's server with what it started."""
    roots = [child.process.pid for child in (whole.hub, whole.proxy, whole.service) if child.process is not None]
    roots += [seen.pid for seen in whole.running() if seen.pid is not None]
    return [each for root in roots for each in (psutil.Process(root), *psutil.Process(root).children(recursive=True))]


def look(whole: Whole, uid: int, pids: list[int]) -> tuple[list[str], list[str]]:
    done = subprocess.run(
        [str(open_python()), "-I", "-S", "-c", LOOK, str(whole.state), json.dumps(pids)],
        user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read, connected = json.loads(done.stdout)
    return read, connected


def test_another_account_reads_nothing_and_all_listen_on_loopback_alone(
    ada_and_bob: tuple[Whole, list[Person]],
) -> None:
    whole, _ = ada_and_bob
    running = programs(whole)
    bobs = next(seen.pid for seen in whole.running("bob"))
    assert bobs is not None
    bob = psutil.Process(bobs).uids().real
    for uid, others in (
        (NOBODY, [each.pid for each in running]),
        (bob, [each.pid for each in running if each.uids().real != bob]),
    ):
        read, connected = look(whole, uid, others)
        foreign = [path for path in read if path.partition("/")[0] not in OPEN]
        if uid == bob:
            foreign = [
                path
                for path in foreign
                if not (whole.state / path).exists() or (whole.state / path).stat().st_uid != bob
            ]
        assert any(path.startswith("environments/") for path in read), "it has looked"
        assert foreign == []
        assert connected == []
    addresses = {
        each.laddr.ip
        for process in running
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert addresses <= {"127.0.0.1", "::1"}
