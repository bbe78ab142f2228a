"""Security is tested on the service's own fixtures, and on an installation as a whole."""

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
