"""The contract is tested on the service's own fixtures."""

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
    project,
    settings,
    spawner,
)
