"""What the fault tests share: `scale` (how often, how long), `report` (what it cost), `check` (checking.py), and installations.

- On a `context` (of tests/service/conftest.py): a fake hub and clock in this process; the test runs the reconciler itself.
- On an `installation` (tests/faults/installation.py): the service as one or more processes of their own, real shims, and stand-ins for
  the engines and the runner, so that hundreds of workloads cost little. It can be killed, at a crash point too, paused and started again.

- On the `whole` (tests/faults/whole.py): service, proxy and hub, many people, and a kernel that must outlive everything.

Every test ends with `check(context or installation)` and `report(<fault>, ...)`. One file for each fault: test_<two digits>_<what>.py.
"""

from collections.abc import Iterator

import pytest

from tests.faults.figures import report, scale  # noqa: F401
from tests.faults.installation import Installation
from tests.faults.whole import keeper, own_whole, whole  # noqa: F401
from tests.hub.conftest import proxy_script, server_python  # noqa: F401
from tests.service.conftest import (  # noqa: F401
    ada,
    admin,
    bob,
    client,
    clock,
    context,
    database_url,
    hub,
    people,
    postgres_url,
    project,
    settings,
    spawner,
)


@pytest.fixture
def installation(database_url: str | None) -> Iterator[Installation]:  # noqa: F811
    with Installation.make(database_url) as made:
        yield made
