"""Opens an installation's store and processes beside the service that may run on them; changes nothing by itself."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from moorage_service.context import Context, capacity_of, pods_of
from moorage_service.identity.hub import HubClient
from moorage_service.identity.vault import Vault
from moorage_service.reconciler.wakeup import Wakeup
from moorage_service.settings import Settings, SettingsError, load
from moorage_service.store import migrations
from moorage_service.store.database import Database
from moorage_spawners.launch import LaunchError, LocalProcesses


class AdminError(Exception):
    """An admin's command can't be carried out; the text says why and what to do."""


def state_folder(given: Path | None) -> Path:
    """The folder that was given, else the one that this program is installed in, else that of an installation as root."""
    if given is not None:
        found = given
    else:
        # `make up` installs us at <state>/platform/control-<version>.
        own = Path(sys.prefix).resolve().parent.parent
        found = own if (own / "installation.json").exists() else Path("/var/lib/moorage")
    if not (found / "database").is_dir():
        raise AdminError(f"--state: {found} is no state folder of Moorage: it holds no `database`. Name the right one.")
    if not os.access(found / "database", os.R_OK | os.W_OK | os.X_OK):
        raise AdminError(f"--state: {found} is another account's. Run this as the account that runs Moorage.")
    return found.absolute()


def settings_of(state: Path) -> Settings:
    """Raises AdminError when they can't be read."""
    try:
        return load(state=state)
    except SettingsError as error:
        raise AdminError(f"The settings can't be used. {error}") from error


@contextmanager
def opened(state: Path) -> Iterator[Context]:
    """A context on the store as it is. Raises AdminError when it can't be read, or is of another version's schema."""
    settings = settings_of(state)
    key = settings.secrets / "vault-key"
    if not key.exists():
        raise AdminError(f"{key} is gone: what it sealed can't be read any more. Restore it from a backup.")
    database = _database(settings)
    wakeup = Wakeup()
    try:
        pods = pods_of(settings, database, wakeup)
    except LaunchError as error:
        raise AdminError(str(error)) from error
    hub = HubClient(settings.hub_api_url, settings.secrets / "service-to-hub", cache_s=0)
    try:
        yield Context(
            settings=settings,
            database=database,
            wakeup=wakeup,
            pods=pods,
            machine=LocalProcesses(settings.state / "workloads"),
            vault=Vault.open(key),
            hub=hub,
            capacity=capacity_of(settings),
        )
    finally:
        hub.close()
        if pods is not None:
            pods.close()
        database.close()


def _database(settings: Settings) -> Database:
    file = settings.state / "database" / "service.sqlite"
    if settings.database_url is None and not file.exists():
        raise AdminError(f"There is no database at {file}. Start Moorage once with `make up`.")
    try:
        database = Database(settings.sqlalchemy_url)
        with database.read() as session:
            found, ours = migrations.current(session.connection()), migrations.head()
    except (SQLAlchemyError, NoSuchModuleError, ModuleNotFoundError, OSError) as error:
        raise AdminError(f"The database can't be read: {error}") from error
    if found != ours:
        database.close()
        raise AdminError(
            f"The database's schema is {found!r} and this program's is {ours!r}. Use the `moorage` of the version that runs, "
            "or start that version first."
        )
    return database
