"""Fault 14: a notebook's pod is evicted, runs out of memory, or its machine falls silent. The owner is told why; nothing is started again
behind their back; and what it held is given back when it is gone, and no earlier.
"""

import json
import threading
import time

import pytest

from tests.faults.figures import Report, Scale
from tests.kube.owners import ENDED, SOON, STARTED, Owner, Owners
from tests.kube.silence import bear, silent
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(7200)
ROUNDS = 10
SILENT_S = 300.0
EAT = "held = []\nwhile True: held.append(b'x' * (8 << 20))"
# Each holds less than the server, which the kernel chooses then.
EAT_TOGETHER = (
    "import os, time\n"
    "for _ in range(20):\n"
    "    if os.fork() == 0:\n"
    "        held = b'x' * (32 << 20)\n"
    "        time.sleep(600)\n"
    "os.wait()"
)


def run_in(owner: Owner, notebook: str, code: str) -> int:
    """A program of the owner's in the pod; its exit status."""
    where = ("-n", owner.namespace, f"{notebook}-1")
    return owner.release.kubectl.try_run("exec", *where, "--", "python3", "-c", code).returncode


def nothing_new(owner: Owner, last: str) -> None:
    """No other notebook was started, and the hub's page offers the start."""
    assert owner.notebooks()[0]["id"] == last
    assert [each for each in owner.notebooks() if each["phase"] not in ENDED] == []
    eventually(lambda: not owner.release.kubectl.list("pods", owner.namespace), within=SOON, what="no pod")


def evict(owner: Owner, notebook: str) -> None:
    """As `kubectl drain` does it."""
    name = f"{notebook}-1"
    wish = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": owner.namespace}}
    path = f"/api/v1/namespaces/{owner.namespace}/pods/{name}/eviction"
    owner.release.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(wish))


def test_an_evicted_notebook_ends_with_its_cause_and_is_not_started_again(
    owners: Owners, scale: Scale, report: Report
) -> None:
    ada, slowest = owners("ada"), 0.0
    rounds = scale.rounds(ROUNDS, short=1)
    for _ in range(rounds):
        notebook = ada.ready()
        begun = time.monotonic()
        evict(ada, notebook)
        ada.told(notebook, "The machine that ran it is being taken out of service.")
        slowest = max(slowest, time.monotonic() - begun)
        ended = ada.let_go(notebook)
        assert (ended["phase"], ended["reason_code"]) == ("failed", "pod.drained")
        nothing_new(ada, notebook)
    owners.check()
    report(14, evictions=rounds, told_within_s=round(slowest, 1), started_again=0)


def test_a_program_and_then_the_server_run_out_of_memory(owners: Owners, scale: Scale, report: Report) -> None:
    """The kernel ends one process where the kubelet lets it (`singleProcessOOMKill`), and the server lives on."""
    ada, slowest = owners("ada"), 0.0
    rounds = scale.rounds(ROUNDS, short=1)
    for _ in range(rounds):
        notebook = ada.ready()
        begun = time.monotonic()
        assert run_in(ada, notebook, EAT) != 0
        told = ada.told(notebook, "It used more than its 512 MiB")
        slowest = max(slowest, time.monotonic() - begun)
        assert (told["phase"], told["reason_code"]) == ("ready", "notebook.out_of_memory")
        assert told["holds"]
        begun = time.monotonic()
        run_in(ada, notebook, EAT_TOGETHER)
        ended = ada.until(notebook, *ENDED)
        slowest = max(slowest, time.monotonic() - begun)
        assert (ended["phase"], ended["reason_code"]) == ("failed", "notebook.out_of_memory"), ended
        assert "Start it again with more memory." in ada.page(f"/workloads/{notebook}")
        ada.let_go(notebook)
        nothing_new(ada, notebook)
    owners.check()
    report(14, programs_killed=rounds, servers_killed=rounds, told_within_s=round(slowest, 1))


def test_a_silent_machine_is_told_of_and_what_ran_there_is_held_until_it_is_gone(
    owners: Owners, scale: Scale, report: Report
) -> None:
    """One notebook is still there when the machine comes back; one was given up by the cluster meanwhile."""
    ada, bob, slowest = owners("ada"), owners("bob"), 0.0
    rounds = scale.rounds(ROUNDS, short=1)
    for _ in range(rounds):
        stays, goes = ada.start(), bob.start()
        ada.until(stays, "ready", within=STARTED)
        bob.until(goes, "ready", within=STARTED)
        ada.execute(stays, "sh", "-c", "echo treasure > /dev/shm/memory")
        pods = ada.pod(stays), bob.pod(goes)
        assert pods[0] is not None
        assert pods[1] is not None
        bear(owners.release.node, pods[0], 3600)
        bear(owners.release.node, pods[1], 1)
        with silent(owners.release):
            begun = time.monotonic()
            silence = ada.told(stays, "The machine that runs it does not answer just now.")
            lost = bob.told(goes, "The machine that ran it was lost")
            slowest = max(slowest, time.monotonic() - begun)
            assert (silence["phase"], silence["reason_code"], bool(silence["holds"])) == (
                "ready",
                "pod.node_silent",
                True,
            )
            assert (lost["reason_code"], bool(lost["holds"])) == ("pod.node_lost", True)
            threading.Event().wait(max(0.0, scale.seconds(SILENT_S) - (time.monotonic() - begun)))
            assert ada.notebook(stays)["holds"]
            assert bob.notebook(goes)["holds"], "nobody knows that it is gone"
            assert bob.pod(goes) is not None
        back = ada.when(stays, lambda seen: seen["reason"] is None, within=SOON, what="no reason any more")
        assert back["phase"] == "ready"
        assert ada.execute(stays, "cat", "/dev/shm/memory") == "treasure\n"
        now = ada.pod(stays)
        assert now is not None
        assert now["metadata"]["uid"] == pods[0]["metadata"]["uid"]
        ended = bob.let_go(goes)
        assert (ended["phase"], "was lost" in ended["reason"]) == ("failed", True)
        nothing_new(bob, goes)
        ada.stop(stays)
    owners.check()
    report(14, silences=rounds, told_within_s=round(slowest, 1), kept=rounds, given_up=rounds)
