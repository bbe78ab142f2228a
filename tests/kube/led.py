"""Hub and service of the release, led to the API server by a way that can fail."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.figures import Scale
from tests.faults.person import ENDED, Person
from tests.kube.api_proxy import PORT, ApiProxy, Asked
from tests.kube.people import Crowd
from tests.kube.place import ADDRESS

PARTS = ("hub", "service")
WAY = {"KUBERNETES_SERVICE_HOST": ADDRESS, "KUBERNETES_SERVICE_PORT": str(PORT)}
WATCH = {"resync": 300, "silence": 100, "stale": 150}  # the chart's own, in seconds
SHORT_WATCH = {"resync": 15, "silence": 4, "stale": 8}


class Led:
    """`end` puts the release back as it was; `begin` and `end` again as often as you like."""

    def __init__(self, crowd: Crowd, scale: Scale) -> None:
        self.crowd = crowd
        self.release = crowd.release
        self.watch = WATCH if scale.full else SHORT_WATCH
        self.proxy = ApiProxy(crowd.release.node.place)
        self._begun: ExitStack | None = None

    def begin(self) -> "Led":
        """Both are ready when it returns. Begun already: nothing."""
        if self._begun is None:
            with ExitStack() as begun:
                begun.enter_context(self.proxy)
                begun.callback(self.release.upgrade)
                values: Mapping[str, Any] = {part: {"extraEnv": WAY} for part in PARTS}
                self.release.upgrade({**values, "watch": self.watch})
                self._begun = begun.pop_all()
        return self

    def end(self) -> None:
        if self._begun is not None:
            self._begun.close()
            self._begun = None

    def pods(self) -> dict[str, str]:
        """Hub and service: uid and restarts, which stay the same as long as nobody had to start them anew."""
        found = {part: self.release.pod(part) for part in PARTS}
        return {
            part: f"{pod['metadata']['uid']} {[each['restartCount'] for each in pod['status']['containerStatuses']]}"
            for part, pod in found.items()
        }

    def asked_since(self, moment: float) -> list[Asked]:
        return [each for each in self.proxy.asked if each.at >= moment]

    def age(self) -> float:
        """Seconds since the service heard of the cluster, as it tells who watches over it."""
        return self._metric("moorage_watch_age_seconds")

    def held(self) -> float:
        """Cores, by the ledger."""
        return self._metric("moorage_held", resource="cpu")

    def _metric(self, name: str, **labels: str) -> float:
        text = self.crowd.admin.page("/metrics").raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return next(sample.value for sample in samples if (sample.name, sample.labels) == (name, labels))

    def delete_pod(self, person: Person) -> None:
        """By hand, as whoever may do so in the cluster."""
        pod = self.crowd.pod(person)["metadata"]
        self.release.kubectl("delete", "pod", pod["name"], "-n", pod["namespace"], "--wait=false")

    def sees_the_end_of(self, person: Person) -> bool:
        """Both do."""
        return phase(person) in ENDED and self.crowd.hub_view(person) == set()


def phase(person: Person) -> str:
    found = person.notebook()
    assert found is not None
    return str(found["phase"])


@pytest.fixture(scope="session")
def led(crowd: Crowd, scale: Scale) -> Iterator[Led]:
    """Not begun. conftest.py ends it before a test that does not ask for it."""
    made = Led(crowd, scale)
    yield made
    made.end()
