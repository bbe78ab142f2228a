"""`python -m moorage_service.main`: reads the settings once and serves until it is told to stop."""

import logging
import os
import sys

import uvicorn
from sqlalchemy.exc import NoSuchModuleError, OperationalError

from moorage_service.app import create_app
from moorage_service.context import make_context
from moorage_service.settings import SettingsError, load
from moorage_service.store.migrations import SchemaError
from moorage_service.walls import raise_wall


def main() -> None:
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = load()
    except SettingsError as error:
        sys.exit(f"moorage-service: the settings can't be used. {error}")
    try:
        context = make_context(settings)
    except (SchemaError, OSError, OperationalError, NoSuchModuleError, ModuleNotFoundError) as error:
        sys.exit(f"moorage-service: it can't start. {error}")
    raise_wall(context)
    # Access lines would hold one-use codes and fill the disk with agents' reports.
    uvicorn.run(
        create_app(context),
        host=settings.host,
        port=settings.port,
        log_level="info",
        access_log=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
