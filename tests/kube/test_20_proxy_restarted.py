"""The proxy's pod is lost, or loses its routes: they come back, websockets connect again, kernels know nothing of it."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import reaches
from tests.kernels import Kernel, close, execute
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


@pytest.fixture(scope="module")
def kernel(crowd: Crowd) -> Iterator[Kernel]:
    with crowd.at_work(crowd.keeper) as (found,):
        yield found


def test_routes_come_back_and_kernels_live_on(crowd: Crowd, kernel: Kernel, scale: Scale, report: Report) -> None:
    rounds = scale.rounds(10, short=2)
    slowest = 0.0
    for number in range(rounds):
        (lose_proxy if number % 2 else empty_routes)(crowd)
        begun = time.monotonic()
        for what, ask in (("a notebook's route", server_answers), ("the portal's", portal_answers)):
            eventually(lambda ask=ask: reaches(lambda: ask(crowd)), within=ROUTES_BACK_S, what=what, every=0.1)  # type: ignore[misc]
        slowest = max(slowest, time.monotonic() - begun)
        assert kernel.run("count += 1; print(count)") == str(number + 1)  # a new websocket, the same kernel
    crowd.check()
    report(20, rounds=rounds, kernels_lost=0, seconds_until_routes_were_back=round(slowest, 1))


def server_answers(crowd: Crowd) -> bool:
    return answers(crowd.keeper)


def portal_answers(crowd: Crowd) -> bool:
    return crowd.keeper.page().status_code == 200


def test_a_websocket_outlives_the_hub(crowd: Crowd, kernel: Kernel, report: Report) -> None:
    """The proxy is a pod of its own: what runs through it goes on while the hub is away, and when another is there."""

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
