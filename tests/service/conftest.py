"""What the service's tests share: a state folder, a context on a fake hub and clock, an app without background threads, and people.

`client` has its base at `/services/moorage`: `client.get("/api/v1/me", headers=ada)`. Of the people, `admin` (root) is an admin, and
`ada` and `bob` are users; each fixture is the headers of a hub token. Tests that should pass on both databases are marked
`@each_database` (from `tests.service.databases`).
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, make_url, select, text

from moorage_service.app import create_app
from moorage_service.context import Context, make_context
from moorage_service.identity import sessions
from moorage_service.identity.hub import HubClient
from moorage_service.settings import PREFIX, Inventory, Rates, Settings
from moorage_service.store.tables import EnvironmentRow, ProjectRow, UserRow, new_id
from moorage_spawners.launch.api_thread import ApiThread
from tests.fakes.clock import FakeClock
from tests.fakes.hub import FakeHub
from tests.fakes.kubernetes import FakeKubernetes, kubeconfig
from tests.service import postgres

Headers = dict[str, str]
ENVIRONMENT = "sha256-0123456789abcdef"
PACKAGES = {"ray": "2.60.0", "aiohttp-cors": "0.8", "distributed": "2026.8.0", "bokeh": "3.9"}
GIB = 1 << 30


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Of a server of our own. Skipped, by name, where Debian's `postgresql` is not installed."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres.serve(programs) as url:
        yield url


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None (SQLite in the state folder) unless `@each_database` says PostgreSQL: then a new, empty database there."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield None
        return
    server = make_url(request.getfixturevalue("postgres_url"))
    name = new_id("db").replace("-", "_")
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, database_url: str | None) -> Settings:
    """A machine of 8 cores and 32 GiB without GPUs, whatever it really has."""
    return Settings(
        state=tmp_path / "state", database_url=database_url, inventory=Inventory(cpu=8, memory=32 * GIB, gpus={}),
        reconcile_s=0.05, hub_token_cache_s=0, seed_starter=False, rates=Rates(enabled=False),
    )  # fmt: skip


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def context(settings: Settings, hub: FakeHub, clock: FakeClock) -> Iterator[Context]:
    made = make_context(settings)
    token_file = settings.secrets / "service-to-hub"
    token_file.write_text(hub.service_token)
    client = HubClient(settings.hub_api_url, token_file, cache_s=settings.hub_token_cache_s, transport=hub.transport())
    made.hub.close()
    yield replace(made, hub=client, clock=clock)
    client.close()
    if made.pods is not None:
        made.pods.close()
    made.database.close()


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    """Routes only: tests run the reconciler's steps themselves. A failure inside is raised in the test."""
    app = create_app(context, background=False)
    origin, host = context.settings.public_url, {"Host": context.settings.addresses.netloc}  # of its websockets, too
    with TestClient(app, base_url=f"{origin}{PREFIX}", headers=host, follow_redirects=False) as made:
        yield made


@pytest.fixture
def people(context: Context, hub: FakeHub) -> dict[str, Headers]:
    """Rows made directly, so that there are several users even where the tests do not run as root."""
    found = {}
    with context.database.begin() as session:
        for number, (name, admin) in enumerate((("root", True), ("ada", False), ("bob", False))):
            uid = context.settings.uid_first + number if os.geteuid() == 0 else None
            session.add(UserRow(hub_name=name, admin=admin, groups=[], uid=uid, created_at=context.clock()))
            found[name] = {"Authorization": f"Bearer {hub.add_user(name, admin=admin)}"}
    return found


@pytest.fixture
def admin(people: dict[str, Headers]) -> Headers:
    return people["root"]


@pytest.fixture
def ada(people: dict[str, Headers]) -> Headers:
    return people["ada"]


@pytest.fixture
def bob(people: dict[str, Headers]) -> Headers:
    return people["bob"]


@pytest.fixture
def spawner(context: Context) -> Headers:
    return {"Authorization": f"Bearer {sessions.spawner_token(context.settings)}"}


@pytest.fixture
def project(context: Context) -> ProjectRow:
    """`starter`, open to all, with an environment's row (nothing on disk)."""
    with context.database.begin() as session:
        session.add(
            EnvironmentRow(digest=ENVIRONMENT, python="3.11.2", packages=PACKAGES, lock="", created_at=context.clock())
        )
        session.add(
            ProjectRow(
                slug="starter", name="Starter", manifest="name: Starter\n", open_to_all=True, environment=ENVIRONMENT,
                created_at=context.clock(),
            )
        )  # fmt: skip
        session.flush()
        return session.scalars(select(ProjectRow)).one()


@pytest.fixture
def thread() -> Iterator[ApiThread]:
    """The cluster's own."""
    made = ApiThread()
    yield made
    made.close()


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thread: ApiThread) -> Iterator[FakeKubernetes]:
    """A cluster, where whoever connects finds it."""
    fake = FakeKubernetes()
    thread.wait(fake.come_back())
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path, fake.port))
    yield fake
    thread.wait(fake.leave())
