"""The proxy's pod is lost, or loses its routes: they come back, websockets connect again, kernels know nothing of it."""

import asyncio
import time

import httpx
import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import reaches
from tests.kernels import close, execute
from tests.kube.people import Crowd, answers
from tests.kube.release import NAME
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)
ROUTES_BACK_S = 30.0  # the pass rule, at the interval that is the default


def empty_routes(crowd: Crowd) -> None:
    service = crowd.release.kubectl.get("service", f"{NAME}-proxy-api", crowd.release.namespace)
    assert service is not None
    api = f"http://{service['spec']['clusterIP']}:8001/api/routes"
    headers = {"Authorization": f"token {crowd.token('proxy-token')}"}
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as proxy:
        for route in proxy.get(api).raise_for_status().json():
            proxy.delete(f"{api}{route}").raise_for_status()


def lose_proxy(crowd: Crowd) -> None:
    crowd.release.kill("proxy")


def test_routes_come_back_and_kernels_live_on(crowd: Crowd, scale: Scale, report: Report) -> None:
    rounds = scale.rounds(10, short=2)
    slowest = 0.0
    with crowd.at_work(crowd.keeper) as (kernel,):
        for number in range(rounds):
            (lose_proxy if number % 2 else empty_routes)(crowd)
            begun = time.monotonic()
            eventually(lambda: reaches(lambda: answers(crowd.keeper)), within=ROUTES_BACK_S, what="a notebook's route")
            eventually(
                lambda: reaches(lambda: crowd.keeper.page().status_code == 200),
                within=ROUTES_BACK_S,
                what="the portal's",
            )
            slowest = max(slowest, time.monotonic() - begun)
            assert kernel.run("count += 1; print(count)") == str(number + 1)  # a new websocket, the same kernel
    crowd.check()
    report(20, rounds=rounds, kernels_lost=0, seconds_until_routes_were_back=round(slowest, 1))


def test_a_websocket_outlives_the_hub(crowd: Crowd, report: Report) -> None:
    """The proxy is a pod of its own: what runs through it goes on while the hub is away, and when another is there."""
    with crowd.at_work(crowd.keeper) as (kernel,):

        async def through_the_hubs_loss() -> list[str]:
            connection = await kernel.connect()
            said = [await execute(connection, "print('before')")]
            lost = await asyncio.to_thread(crowd.release.lose, "hub")
            said.append(await execute(connection, "print('without')"))
            await asyncio.to_thread(crowd.release.until_another, "hub", lost)
            said.append(await execute(connection, "print('after')"))
            await close(connection)
            return said

        assert asyncio.run(through_the_hubs_loss()) == ["before", "without", "after"]
    crowd.check()
    report(20, websockets_cut_by_a_lost_hub=0)
