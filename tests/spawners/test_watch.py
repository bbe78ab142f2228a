"""The picture of a cluster: right while all is well, and never wrong about what is gone when it is not."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.kubernetes import FakeKubernetes
from tests.spawners.watching import QUICK, WITHIN, watching


async def test_what_there_is_and_what_comes_and_goes_is_seen() -> None:
    kubernetes = FakeKubernetes()
    kubernetes.put("nb-1")
    async with watching(kubernetes) as scene:
        await scene.shows("nb-1")
        kubernetes.put("nb-2", status={"phase": "Pending"})
        await scene.shows("nb-1", "nb-2")
        kubernetes.put("nb-2", status={"phase": "Running"})
        kubernetes.remove("nb-1")
        await scene.shows("nb-2")
        assert scene.watcher.get("moorage-ada", "nb-2")["status"] == {"phase": "Running"}  # type: ignore[index]
        assert scene.heard == [("seen", "nb-1"), ("seen", "nb-2"), ("seen", "nb-2"), ("gone", "nb-1")]
        assert scene.watcher.trouble is None


async def test_a_list_of_many_pages_is_one_picture() -> None:
    kubernetes = FakeKubernetes(pages=3)
    names = {f"nb-{number}" for number in range(10)}
    for name in names:
        kubernetes.put(name)
    async with watching(kubernetes) as scene:
        await scene.shows(*names)
        assert kubernetes.requests.count("list") == 4


async def test_what_is_not_ours_is_not_seen() -> None:
    kubernetes = FakeKubernetes()
    kubernetes.put("other", metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}})
    async with watching(kubernetes) as scene:
        kubernetes.put("other-2", metadata={"labels": {}})
        kubernetes.put("nb-1")
        await scene.shows("nb-1")


async def test_given_namespaces_are_watched_each_and_no_other() -> None:
    async with watching(namespaces=("a", "b")) as scene:
        scene.kubernetes.put("nb-1", "a")
        scene.kubernetes.put("nb-2", "c")
        scene.kubernetes.put("nb-3", "b")
        await scene.shows("nb-1", "nb-3")


async def test_a_picture_is_not_fresh_before_all_of_it_was_listed() -> None:
    kubernetes, begun = FakeKubernetes(failing=500), time.monotonic()
    async with watching(kubernetes, following=False) as scene:
        await scene.until(lambda: scene.watcher.trouble)
        assert "500" in str(scene.watcher.trouble)
        assert not scene.watcher.fresh_within(1e9)
        assert not scene.watcher.listed_since(begun)
        kubernetes.failing = None
        await scene.until(lambda: scene.watcher.fresh_within(WITHIN))
        assert scene.watcher.listed_since(begun)
        assert scene.watcher.trouble is None


@pytest.mark.parametrize("how", ["in the stream", "on connecting"])
async def test_a_forgotten_version_is_listed_anew(how: str) -> None:
    async with watching() as scene:
        scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")
        if how == "on connecting":
            scene.kubernetes.reset()
        scene.kubernetes.expire()
        scene.kubernetes.remove("nb-1")
        scene.kubernetes.put("nb-2")
        await scene.shows("nb-2")
        assert scene.heard[-2:] == [("gone", "nb-1"), ("seen", "nb-2")]


@pytest.mark.parametrize("fault", ["reset", "end_streams"])
async def test_a_stream_that_breaks_off_loses_nothing(fault: str) -> None:
    async with watching() as scene:
        scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")
        getattr(scene.kubernetes, fault)()
        scene.kubernetes.put("nb-2")
        await scene.shows("nb-1", "nb-2")
        assert ("gone", "nb-1") not in scene.heard


async def test_while_the_server_is_away_nothing_is_called_gone_and_the_picture_ages() -> None:
    async with watching() as scene:
        for name in ("nb-1", "nb-2"):
            scene.kubernetes.put(name)
        await scene.shows("nb-1", "nb-2")
        await scene.kubernetes.leave()
        await scene.until(lambda: scene.watcher.trouble)
        scene.kubernetes.remove("nb-1")
        scene.kubernetes.put("nb-3")
        left = scene.watcher.age()
        await scene.until(lambda: scene.watcher.age() > left + 0.05)
        assert not scene.watcher.fresh_within(left)
        assert scene.names() == {"nb-1", "nb-2"}
        await scene.kubernetes.come_back()
        await scene.shows("nb-2", "nb-3")
        assert scene.heard[-2:] == [("gone", "nb-1"), ("seen", "nb-3")]


async def test_a_silent_connection_is_given_up_and_what_happened_meanwhile_is_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with watching(timing=replace(QUICK, silence_s=0.3)) as scene:
        scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")
        scene.kubernetes.silent = True
        scene.kubernetes.remove("nb-1")
        scene.kubernetes.silent = False  # for who asks anew; the old stream said nothing of it
        await scene.shows()
        assert scene.heard[-1] == ("gone", "nb-1")
    assert caplog.records == []  # most clusters are quiet at night


async def test_a_list_that_never_comes_is_given_up() -> None:
    async with watching(
        FakeKubernetes(silent=True), timing=replace(QUICK, page_within_s=0.1), following=False
    ) as scene:
        await scene.until(lambda: scene.watcher.trouble)
        scene.kubernetes.silent = False
        scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")


async def test_a_stream_that_says_too_little_is_checked_by_a_list_now_and_then() -> None:
    async with watching(timing=replace(QUICK, resync_s=1)) as scene:
        scene.kubernetes.put("nb-1")
        await scene.shows("nb-1")
        scene.kubernetes.silent = True
        scene.kubernetes.remove("nb-1")
        scene.kubernetes.silent = False

        def told() -> bool:
            scene.kubernetes.bookmark()
            return scene.heard[-1] == ("gone", "nb-1")

        await scene.until(told)


async def test_a_bookmark_keeps_the_picture_fresh() -> None:
    async with watching() as scene:
        await scene.until(lambda: scene.watcher.age() > 0.1)

        def renewed() -> bool:
            scene.kubernetes.bookmark()
            return scene.watcher.age() < 0.1

        await scene.until(renewed)
        assert scene.kubernetes.requests.count("list") == 1


async def test_a_line_that_comes_byte_by_byte_is_one_line() -> None:
    async with watching(FakeKubernetes(piecewise=1)) as scene:
        scene.kubernetes.put("nb-1", status={"message": "a\nb é 漢"})
        await scene.shows("nb-1")
        assert scene.watcher.objects()[0]["status"] == {"message": "a\nb é 漢"}


async def test_the_system_itself_asks_whether_a_quiet_stream_still_stands() -> None:
    """Else a connection that was lost on the way would be waited for as long as one in which there is nothing to say."""
    async with watching() as scene:
        assert probed(scene.kubernetes.port) == [True]


def probed(port: int) -> list[bool]:
    """Of each connection to this port of this machine whether a timer of keep-alive probes runs (proc_pid_net(5): `tr` is 2)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = [row for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"]
    return [row[5].startswith("02:") for row in there]
