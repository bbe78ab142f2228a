"""A container's log, line by line."""

from contextlib import aclosing

import pytest

from moorage_spawners.launch import pod_logs
from moorage_spawners.launch.api_objects import Unanswered
from tests.fakes.kubernetes import FakeKubernetes, serving


async def heard(kubernetes: FakeKubernetes, longest: int = pod_logs.LONGEST_LINE) -> list[str]:
    async with (
        serving(kubernetes) as api,
        aclosing(pod_logs.lines(api, "moorage-ada", "nb-1", "server", longest=longest)) as lines,
    ):
        return [line async for line in lines]


async def test_lines_come_whole_and_in_order() -> None:
    said = ["first", "", "  third, \u00fc", "\u00d7" * 900, "last"]
    assert await heard(FakeKubernetes(logs={("nb-1", "server"): said})) == said


async def test_what_is_too_long_of_a_line_is_left_out_and_the_next_is_whole() -> None:
    assert await heard(FakeKubernetes(logs={("nb-1", "server"): ["x" * 100_000, "next"]}), longest=10) == [
        "x" * 10,
        "next",
    ]


async def test_a_server_that_is_away_is_no_empty_log() -> None:
    kubernetes = FakeKubernetes()
    async with serving(kubernetes) as api:
        await kubernetes.leave()
        with pytest.raises(Unanswered):
            async for _ in pod_logs.lines(api, "moorage-ada", "nb-1", "server"):
                pass
