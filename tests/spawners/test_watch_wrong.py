"""A server that says odd things: late, twice, out of order, of the past, or nothing that can be read."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from moorage_spawners.launch.api_objects import Resource
from moorage_spawners.launch.watch import Change, Watcher
from tests.fakes.kubernetes import FakeKubernetes, serving
from tests.spawners.watching import QUICK, WITHIN, Scene, watching


def deleted(made: dict[str, Any], **metadata: str) -> dict[str, Any]:
    return {"type": "DELETED", "object": {**made, "metadata": {**made["metadata"], **metadata}}}


async def settled(scene: Scene, *names: str) -> None:
    """All that was said so far has been taken in: what is said after it is seen."""
    scene.kubernetes.put("last")
    await scene.shows(*names, "last")


async def test_a_change_that_comes_late_does_not_undo_a_newer_one() -> None:
    async with watching() as scene:
        old = scene.kubernetes.put("nb-1", status={"phase": "Pending"})
        scene.kubernetes.put("nb-1", status={"phase": "Running"})
        await scene.until(
            lambda: (scene.watcher.get("moorage-ada", "nb-1") or {}).get("status") == {"phase": "Running"}
        )
        scene.kubernetes.say({"type": "MODIFIED", "object": old})
        scene.kubernetes.say(deleted(old))
        await settled(scene, "nb-1")
        assert ("gone", "nb-1") not in scene.heard
        assert {"phase": "Running"} in [each.get("status") for each in scene.watcher.objects()]


async def test_what_is_gone_does_not_come_back_by_a_late_change() -> None:
    async with watching() as scene:
        old = scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")
        scene.kubernetes.remove("nb-1")
        await scene.shows()
        scene.kubernetes.say({"type": "MODIFIED", "object": old})
        await settled(scene)


async def test_the_end_of_an_earlier_one_is_not_the_end_of_its_namesake() -> None:
    async with watching() as scene:
        made = scene.kubernetes.put("nb-1", uid="second")
        await scene.shows("nb-1")
        scene.kubernetes.version += 1
        scene.kubernetes.say(deleted(made, uid="first", resourceVersion=str(scene.kubernetes.version)))
        await settled(scene, "nb-1")
        assert ("gone", "nb-1") not in scene.heard


@pytest.mark.parametrize("told", ["by the stream", "by a list"])
async def test_one_that_was_replaced_is_gone_and_the_new_one_is_seen(told: str) -> None:
    async with watching() as scene:
        scene.kubernetes.put("nb-1", uid="first")
        await scene.shows("nb-1")
        if told == "by a list":
            await scene.kubernetes.leave()
        scene.kubernetes.put("nb-1", uid="second")
        if told == "by a list":
            await scene.kubernetes.come_back()
        await scene.until(lambda: len(scene.heard) > 1)
        assert scene.heard == [("seen", "nb-1"), ("gone", "nb-1"), ("seen", "nb-1")]
        assert [each["metadata"]["uid"] for each in scene.watcher.objects()] == ["second"]


def past(version: int) -> dict[str, Any]:
    return {"kind": "List", "metadata": {"resourceVersion": str(version)}, "items": []}


async def test_a_list_of_the_past_says_nothing_of_what_is_gone() -> None:
    kubernetes = FakeKubernetes()
    async with watching(kubernetes) as scene:
        kubernetes.put("nb-1")
        await scene.shows("nb-1")
        kubernetes.answers = [past(50), past(50)]
        kubernetes.reset()
        await settled(scene, "nb-1")
        assert kubernetes.answers == []
        assert ("gone", "nb-1") not in scene.heard


async def test_a_cluster_that_was_restored_from_a_backup_is_believed_in_the_end() -> None:
    kubernetes = FakeKubernetes()
    async with watching(kubernetes) as scene:
        kubernetes.put("nb-1")
        await scene.shows("nb-1")
        kubernetes.answers = [past(50)] * 4
        kubernetes.reset()
        await scene.until(lambda: ("gone", "nb-1") in scene.heard)


async def test_a_page_that_is_no_list_is_no_empty_cluster() -> None:
    kubernetes = FakeKubernetes()
    async with watching(kubernetes) as scene:
        kubernetes.put("nb-1")
        await scene.shows("nb-1")
        kubernetes.answers = [
            {"kind": "Status", "status": "Success"},
            {"items": None, "metadata": {}},
            {"items": [{}], "metadata": None},
        ]
        kubernetes.reset()
        await settled(scene, "nb-1")
        assert ("gone", "nb-1") not in scene.heard


@pytest.mark.parametrize(
    "line",
    [
        {"type": "ADDED", "object": {"metadata": {}}},
        {
            "type": "SURPRISE",
            "object": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "moorage", "moorage.dev/workload": ""}}},
        },
        {"type": "ERROR", "object": {"code": 500, "message": "etcdserver: leader changed", "metadata": {}}},
    ],
)
async def test_a_line_that_cannot_be_read_costs_a_new_list_and_no_more(line: dict[str, Any]) -> None:
    async with watching() as scene:
        scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")
        line["object"]["metadata"].setdefault("labels", {}).update(
            {"app.kubernetes.io/managed-by": "moorage", "moorage.dev/workload": ""}
        )
        scene.kubernetes.say(line)
        await scene.until(lambda: scene.kubernetes.requests.count("list") == 2 and scene.kubernetes.streams)
        await settled(scene, "nb-1")
        assert ("gone", "nb-1") not in scene.heard


async def test_what_we_made_ourselves_is_seen_at_once_and_told_once() -> None:
    async with watching() as scene:
        made = scene.kubernetes.put("nb-1")
        scene.watcher.note(made)
        assert scene.names() == {"nb-1"}
        await settled(scene, "nb-1")
        assert scene.heard.count(("seen", "nb-1")) == 1


async def test_what_we_made_while_a_list_was_under_way_is_not_gone_by_it() -> None:
    kubernetes = FakeKubernetes()
    async with watching(kubernetes) as scene:
        kubernetes.answers = [past(kubernetes.version)]  # as it was before what we make now
        kubernetes.silent = True
        scene.watcher.note(kubernetes.put("nb-1"))
        kubernetes.silent = False
        kubernetes.reset()
        await settled(scene, "nb-1")
        assert ("gone", "nb-1") not in scene.heard


async def test_what_we_made_and_somebody_ended_does_not_come_back_by_our_note() -> None:
    async with watching() as scene:
        made = scene.kubernetes.put("nb-1")
        scene.kubernetes.remove("nb-1")
        await settled(scene)
        scene.watcher.note(made)
        assert scene.names() == {"last"}


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    kubernetes = FakeKubernetes(failing=429, retry_after=3600)
    patience = replace(QUICK, longest_pause_s=0.2)  # of an hour no more than 6 of these
    async with watching(kubernetes, timing=patience, following=False) as scene:
        await scene.until(lambda: "429" in (scene.watcher.trouble or ""))
        begun = time.monotonic()
        await scene.until(lambda: len(kubernetes.requests) > 1)
        assert time.monotonic() - begun > 0.6


@pytest.mark.parametrize("fault", [{"failing": 500}, {"ending": True}, {"failing": 410}])
async def test_a_server_in_trouble_is_not_asked_in_a_hot_loop(fault: dict[str, Any]) -> None:
    pauses = replace(QUICK, first_pause_s=0.02, longest_pause_s=3600, steady_s=600)
    async with watching(FakeKubernetes(**fault), timing=pauses, following=False) as scene:
        begun = time.monotonic()
        await scene.until(lambda: len(scene.kubernetes.requests) >= 6)
        # Each pause is at least half of twice the last: 0.01, 0.02, 0.04 ... of which three make two requests each.
        assert time.monotonic() - begun > (0.01 + 0.02)


async def test_a_listener_that_fails_spoils_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_change: Change) -> None:
        raise RuntimeError("not today")

    kubernetes = FakeKubernetes()
    async with serving(kubernetes) as api, Watcher([Resource(api, "pods")], timing=QUICK) as watcher:
        watcher.listen(fail)
        kubernetes.put("nb-1")
        kubernetes.put("nb-2")
        async with asyncio.timeout(WITHIN):
            await watcher.until(lambda: True if len(watcher.objects()) == 2 else None)
    assert "not today" in caplog.text


def _watching() -> list[str]:
    """The watcher's tasks that there are."""
    found = {str(getattr(each.get_coro(), "__qualname__", "")) for each in asyncio.all_tasks()}
    return sorted(name for name in found if name.startswith(("Watcher.", "_Scope.")))


async def test_closing_ends_the_task_even_while_the_server_is_away() -> None:
    async with watching(timing=replace(QUICK, first_pause_s=3600, longest_pause_s=3600)) as scene:
        assert _watching()
        await scene.kubernetes.leave()
        await scene.until(lambda: scene.watcher.trouble)
    assert _watching() == []
