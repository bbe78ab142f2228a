"""Fault 24: `helm upgrade` and `helm rollback` under notebooks that run. No kernel is lost, and nothing that is open is cut."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from tests.faults.figures import LIMIT_S, Report, Scale
from tests.faults.person import Person
from tests.kernels import Kernel, close, execute
from tests.kube.people import Crowd, kernel_of
from tests.kube.release import NAME, Release
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(LIMIT_S)
TOLD = "import os; print(os.environ.get('OF_THE_RELEASE'))"


def test_upgrades_and_rollbacks_lose_no_kernel(crowd: Crowd, scale: Scale, report: Report) -> None:
    release, (newcomer, *people) = crowd.release, crowd.people[: 17 if scale.full else 3]
    rounds = scale.rounds(10, short=1)

    def upgrade() -> None:
        """Other pods of hub and service, and another environment for notebooks that start from now on."""
        changed = {"annotations": {"example.org/release": "newer"}}
        newer = {"hub": changed, "service": changed, "singleuser": {"extraEnv": {"OF_THE_RELEASE": "newer"}}}
        exchanged(release, lambda: release.upgrade(newer))
        assert what_a_new_one_is_told(crowd, newcomer) == "newer"

    def roll_back() -> None:
        exchanged(release, lambda: release.helm("rollback", NAME, "--wait", "--timeout", "240s"))

    with crowd.at_work(*people) as kernels:
        pods = [crowd.pod(person)["metadata"]["uid"] for person in people]
        counted = asyncio.run(count_through([upgrade, roll_back] * rounds, kernels[0]))
        assert counted == [str(number + 1) for number in range(2 * rounds)]
        assert [kernel.run("count += 1; print(count)") for kernel in kernels[1:]] == ["1"] * len(kernels[1:])
        assert [crowd.pod(person)["metadata"]["uid"] for person in people] == pods
        assert {frozenset(crowd.hub_view(person)) for person in people} == {frozenset({"starter"})}
    crowd.check()
    report(24, rounds=rounds, notebooks=len(people), kernels_lost=0, websockets_cut=0)


async def count_through(changes: Sequence[Callable[[], None]], kernel: Kernel) -> list[str]:
    """What the kernel counts to after each change, over one websocket that is open all the time."""
    connection = await kernel.connect()
    said = []
    for change in changes:
        await asyncio.to_thread(change)
        said.append(await execute(connection, "count += 1; print(count)"))
    await close(connection)
    return said


def exchanged(release: Release, change: Callable[[], object]) -> None:
    """The change puts other pods in the place of hub and service, and leaves the proxy's alone."""

    def uid(part: str) -> str:
        return str(release.pod(part).get("metadata", {}).get("uid", ""))

    hub, service, proxy = uid("hub"), uid("service"), uid("proxy")
    change()
    eventually(lambda: uid("hub") not in ("", hub), what="another hub")
    eventually(lambda: uid("service") not in ("", service), what="another service")
    assert uid("proxy") == proxy


def what_a_new_one_is_told(crowd: Crowd, person: Person) -> str:
    with crowd.at_work(person):
        return kernel_of(person).run(TOLD)
