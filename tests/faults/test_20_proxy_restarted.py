"""The proxy is killed, or loses its routes: they come back, websockets connect again, kernels know nothing of it."""

import asyncio
import time

import httpx

from tests.faults.checking import check_at
from tests.faults.figures import Report, Scale
from tests.faults.person import reaches
from tests.faults.whole import PEOPLE, Whole
from tests.kernels import Kernel, close, execute
from tests.waiting import eventually

ROUTES_BACK_S = 30.0  # the pass rule, at the interval that is the default


def empty_routes(whole: Whole) -> None:
    headers = {"Authorization": f"token {whole.proxy_token}"}
    api = f"http://127.0.0.1:{whole.settings.proxy_api_port}/api/routes"
    with httpx.Client(headers=headers, trust_env=False, timeout=60) as proxy:
        for route in proxy.get(api).json():
            proxy.delete(f"{api}{route}")
        assert proxy.get(api).json() == {}


def restart_proxy(whole: Whole) -> None:
    whole.kill(whole.proxy)
    whole.proxy.start()


def test_routes_come_back_and_kernels_live_on(whole: Whole, keeper: Kernel, scale: Scale, report: Report) -> None:
    rounds = 10 if scale.full else 2
    person = whole.person(PEOPLE[0])
    person.ask()
    person.until("ready")
    counted = eventually(person.counter)
    before = int(keeper.run("print(count)"))
    slowest = 0.0
    for number in range(rounds):
        (restart_proxy if number % 2 else empty_routes)(whole)
        begun = time.monotonic()
        eventually(lambda: reaches(person.counter), within=ROUTES_BACK_S, what="the route of a notebook")
        eventually(
            lambda: reaches(lambda: person.page().status_code == 200), within=ROUTES_BACK_S, what="the portal's route"
        )
        slowest = max(slowest, time.monotonic() - begun)
        assert keeper.run("count += 1; print(count)") == str(before + number + 1)  # a new websocket, the same kernel
    assert (person.counter() or 0) > counted
    person.stop()
    person.close()
    check_at(whole.state)
    report(20, rounds=rounds, kernels_lost=0, seconds_until_routes_were_back=round(slowest, 1))


def test_a_websocket_outlives_the_hub(whole: Whole, keeper: Kernel, report: Report) -> None:
    """The proxy is no child of the hub: what runs through it goes on while the hub is dead, and when it is back."""

    async def through_the_hubs_death() -> list[str]:
        connection = await keeper.connect()
        said = [await execute(connection, "print('before')")]
        whole.kill(whole.hub)
        said.append(await execute(connection, "print('without')"))
        await asyncio.to_thread(whole.restart_hub, None)
        said.append(await execute(connection, "print('after')"))
        await close(connection)
        return said

    assert asyncio.run(through_the_hubs_death()) == ["before", "without", "after"]
    check_at(whole.state)
    report(20, websockets_cut_by_a_killed_hub=0)
