"""What is around a notebook's pod goes wrong: its machine takes no work, its home is full, its namespace is deleted by hand."""

import pytest

from tests.kube.full_home import small_home
from tests.kube.kubectl import KubectlRefused
from tests.kube.owners import PROJECT, SOON, STARTED, Owners
from tests.kube.place import NODE_NAME
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)


def test_a_notebook_that_no_machine_takes_says_so_and_starts_when_one_does(owners: Owners) -> None:
    ada, kubectl = owners("ada"), owners.release.kubectl
    kubectl("cordon", NODE_NAME)
    try:
        notebook = ada.start()
        told = ada.told(notebook, "The machines that could run it take no new work just now.")
        assert told["phase"] in ("pending", "starting")
    finally:
        kubectl("uncordon", NODE_NAME)
    ada.until(notebook, "ready", within=STARTED)
    ada.stop(notebook)
    owners.check()


def test_a_full_home_is_told_by_a_start_that_it_hinders_and_while_a_notebook_runs(owners: Owners) -> None:
    cat = owners("cat")
    with small_home(owners.release.node, cat.namespace, "10Gi") as home:
        home.fill()
        hindered = cat.start()
        failed = cat.until(hindered, "failed", within=STARTED)
        assert "The storage of your home is full." in failed["reason"]
        assert "The storage of your home is full." in cat.page(f"/start/{PROJECT}")
        home.empty()
        notebook = cat.ready()
        home.fill()
        told = cat.told(notebook, "Your home is full")
        assert (told["phase"], told["reason_code"]) == ("ready", "volume.full")
        with pytest.raises(KubectlRefused, match="No space left on device"):
            cat.execute(
                notebook, "python3", "-c", "import pathlib; pathlib.Path.home().joinpath('note').write_text('more')"
            )
        home.empty()
        cat.when(notebook, lambda seen: seen["reason"] is None, within=SOON, what="no reason any more")
        cat.stop(notebook)
    owners.check()


def test_a_namespace_deleted_by_hand_ends_what_ran_there_and_is_made_anew(owners: Owners) -> None:
    ada, bob, kubectl = owners("ada"), owners("bob"), owners.release.kubectl
    lost, others = ada.ready(), bob.ready()
    before, pod = kubectl.get("namespace", ada.namespace), bob.pod(others)
    assert before is not None
    assert pod is not None
    kubectl("delete", "namespace", ada.namespace, "--wait=false")
    ended = ada.let_go(lost)
    assert (ended["phase"], ended["reason_code"]) == ("failed", "pod.removed")
    assert "was removed from the cluster" in ada.page(f"/workloads/{lost}")
    eventually(lambda: kubectl.get("namespace", ada.namespace) is None, within=SOON, what="no namespace")
    again = ada.ready()
    after = kubectl.get("namespace", ada.namespace)
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert ada.execute(again, "ls", "/home/jovyan").strip() == PROJECT
    now = bob.pod(others)
    assert now is not None
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    assert bob.notebook(others)["phase"] == "ready"
    ada.stop(again)
    bob.stop(others)
    owners.check()
