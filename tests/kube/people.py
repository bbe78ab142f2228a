"""People who sign in at the chart, each with a browser of their own, and the notebooks that they run there."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Self, TypeVar

import httpx
import pytest

from moorage.origins import Origins
from moorage_spawners.launch.labels import KIND, OWNER
from tests.faults.person import ENDED, Person
from tests.kernels import Kernel, NotebookServer
from tests.kube.kubectl import Object
from tests.kube.release import NAME, Release
from tests.waiting import eventually

T = TypeVar("T")
PEOPLE = [f"person-{number:02}" for number in range(20)]
KEEPER = "keeper"  # has a kernel that counts, whatever is broken
SIZE = {"cpu": "0.1", "memory_gib": "0.4"}  # the least that may be asked for: two cores have room for seventeen
SETTLED_S = 240.0
A_LOOK_S = 0.7  # as the page that a person looks at asks
BUILT_S = 900.0
NO_ROOM = "No machine has enough free"


class Crowd:
    """`people` and a `keeper`, on the hub's built-in list and signed in, and `admin`. Nobody runs anything at first."""

    def __init__(self, release: Release) -> None:
        self.release = release
        addresses = Origins(release.url, per_user=True)
        self.admin = Person(addresses, "admin")
        self.keeper = Person(addresses, KEEPER)
        self.people = [Person(addresses, name) for name in PEOPLE]
        self.owners: dict[str, str] = {}
        self._tokens: dict[str, str] = {}

    def sign_in(self) -> Self:
        """Returns when everybody may start the project `starter`."""
        everybody = [self.admin, self.keeper, *self.people]
        links = self.release.links(*(person.name for person in everybody))
        self.together(lambda person: person.sign_in(links[person.name]), everybody)
        self.owners = {person.name: person.api("GET", "/me")["user"]["id"] for person in everybody}
        eventually(self._built, within=BUILT_S, what="the environment of the project starter", every=A_LOOK_S)
        return self

    def close(self) -> None:
        for person in (self.admin, self.keeper, *self.people):
            person.close()

    def _built(self) -> bool:
        return self.admin.api("GET", "/projects/starter")["environment"] is not None

    # --- what they do -----------------------------------------------------------------------------------------------

    def together(self, act: Callable[[Person], T], people: Sequence[Person]) -> list[T]:
        """Each in a thread of their own, at the same moment; the answers in their order."""
        with ThreadPoolExecutor(len(people)) as threads:
            return list(threads.map(act, people))

    def start(self, people: Sequence[Person]) -> list[str]:
        """All at once; how it ended for each, as `settled` says it."""
        self.together(ask, people)
        return self.together(settled, people)

    def stop(self, people: Sequence[Person]) -> None:
        """Returns when nothing of theirs runs."""
        self.together(Person.stop, people)
        eventually(lambda: not self.pods(*people), what="the end of their pods", every=A_LOOK_S)

    @contextmanager
    def at_work(self, *people: Person) -> Iterator[list[Kernel]]:
        """While each has a notebook with a kernel, in whose memory `count` is 0 at first."""
        try:
            said = self.start(people)
            assert set(said) == {"ready"}, said
            kernels = self.together(kernel_of, people)
            assert [kernel.run("count = 0; print(count)") for kernel in kernels] == ["0"] * len(people)
            yield kernels
        finally:
            self.stop(people)

    @contextmanager
    def limited(self, resource: str, amount: float) -> Iterator[None]:
        """While all together may hold no more."""
        rule = {"scope": "everyone", "sharing": "pool", "resource": resource, "amount": amount}
        made = self.admin.api("POST", "/limits", json=rule)
        try:
            yield
        finally:
            self.admin.api("DELETE", f"/limits/{made['id']}")

    # --- what is to be seen of it -----------------------------------------------------------------------------------

    def pods(self, *people: Person) -> list[Object]:
        """Of notebooks, these people's or everybody's: whatever the cluster has not let go of."""
        whose = f",{OWNER} in ({','.join(self.owners[person.name] for person in people)})" if people else ""
        said = self.release.kubectl("get", "pods", "-A", "-l", f"{KIND}=notebook{whose}", "-o", "json")
        found: list[Object] = json.loads(said)["items"]
        return found

    def pod(self, person: Person) -> Object:
        """The one that runs."""
        (pod,) = self.pods(person)
        return pod

    def hub_view(self, person: Person) -> set[str]:
        """The servers of theirs that the hub says are ready."""
        headers = {"Authorization": f"token {self.token('service-to-hub')}"}
        url = person.addresses.hub(f"/api/users/{person.name}")
        answer = httpx.get(url, headers=headers, timeout=30, trust_env=False).raise_for_status()
        return {name for name, server in answer.json()["servers"].items() if server["ready"]}

    def token(self, name: str) -> str:
        """Of the chart's own; none of them changes here."""
        if not self._tokens:
            found = self.release.kubectl.get("secret", f"{NAME}-tokens", self.release.namespace)
            assert found is not None
            self._tokens = {each: base64.b64decode(value).decode().strip() for each, value in found["data"].items()}
        return self._tokens[name]

    def check(self, *, settle_s: float = 60.0) -> None:
        """As every fault test ends: ledger and cluster agree. Fails with the findings that stay."""
        found: list[Any] = []

        def ask() -> bool:
            found[:] = self.admin.api("GET", "/check")["findings"]
            return not found

        try:
            eventually(ask, within=settle_s)
        except AssertionError as late:
            raise AssertionError(found) from late


def kernel_of(person: Person) -> Kernel:
    """A new one of their notebook."""
    return Kernel(NotebookServer(person.browser, person.server("lab")))


def ask(person: Person) -> None:
    person.ask(**SIZE)


def settled(person: Person) -> str:
    """ "ready", or the sentence that says why not."""
    what = f"the end of {person.name}'s start"
    return str(eventually(lambda: _outcome(person), within=SETTLED_S, what=what, every=A_LOOK_S))


def settled_or_waits(person: Person) -> str:
    """The same, and with a full node the sentence that says what is waited for."""
    what = f"what becomes of {person.name}'s start"
    return str(eventually(lambda: _outcome(person) or _waits(person), within=SETTLED_S, what=what, every=A_LOOK_S))


def _outcome(person: Person) -> str | None:
    found = person.notebook()
    if found is not None and found["phase"] == "ready":
        return "ready" if answers(person) else None
    return person.refusal() if found is None or found["phase"] in ENDED else None


def _waits(person: Person) -> str | None:
    found = person.notebook()
    said = "" if found is None or found["phase"] in ENDED else str(found["reason"])
    return said if said.startswith(NO_ROOM) else None


def answers(person: Person) -> bool:
    """Whether their own server does, and nobody in its place."""
    answer = person.server("api")
    told = answer.is_success and answer.headers.get("content-type", "").startswith("application/json")
    return told and "version" in answer.json()


@pytest.fixture(scope="session")
def crowd(release: Release) -> Iterator[Crowd]:
    with ExitStack() as ends:
        made = Crowd(release)
        ends.callback(made.close)
        yield made.sign_in()
