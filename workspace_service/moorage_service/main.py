"""`python -m moorage_service.main`: reads the settings once and serves until it is told to stop."""

import logging
import os
import sys
import time

import uvicorn
from sqlalchemy.exc import NoSuchModuleError, OperationalError

from moorage_service.app import create_app
from moorage_service.context import Context, make_context
from moorage_service.settings import Settings, SettingsError, load
from moorage_service.store.migrations import SchemaError
from moorage_service.walls import raise_wall
from moorage_service.watch import logs
from moorage_spawners.launch import LaunchError

RETRY_S = 0.5
log = logging.getLogger(__name__)

# The proxy keeps its connections to us and sends the next request over one that may be closing in that moment, which it answers by 503.
# So we close none that is in use at all; those of the hub live as long.
KEEP_ALIVE_S = 3600


def main() -> None:
    os.umask(0o077)
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"moorage-service: the settings can't be used. {error}")
    logs.configure(settings.log_format)
    try:
        context = _patiently(settings)
    except (SchemaError, OSError, OperationalError, NoSuchModuleError, ModuleNotFoundError, LaunchError) as error:
        sys.exit(f"moorage-service: it can't start. {error}")
    raise_wall(context)
    # Access lines would hold one-use codes and fill the disk with agents' reports.
    uvicorn.run(
        create_app(context),
        host=settings.host,
        port=settings.port,
        log_config=None,  # its lines go where ours go
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=KEEP_ALIVE_S,
        proxy_headers=False,  # whoever calls directly could write them: `peers.address_of` looks who it was
    )


def _patiently(settings: Settings) -> Context:
    """`make_context`, again and again while the database is away: it may be starting, too. Raises what it raised last."""
    deadline = time.monotonic() + settings.database_wait_s
    while True:
        try:
            return make_context(settings)
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("the database does not answer yet: %s", error.orig)
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
