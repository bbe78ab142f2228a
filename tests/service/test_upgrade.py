"""A database of each release, with data in it, is brought up to this one and can be worked with."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage_service.app import create_app
from moorage_service.context import make_context
from moorage_service.identity import sessions
from moorage_service.projects import secrets
from moorage_service.settings import PREFIX, Inventory, Settings
from moorage_service.store.tables import ProjectRow, ReservationRow, Table, UserRow
from tests.fakes.clock import FakeClock
from tests.service.databases import each_database
from tests.service.restored import restore
from tests.service.world import GIB

FIXTURES = Path(__file__).parents[1] / "fixtures"
SINCE_0_1_0 = frozenset({"tickets", "leases", "quarantine"})
DUMPS = sorted(FIXTURES.glob("moorage-*.sql"))


@pytest.fixture(params=DUMPS, ids=lambda path: path.stem)
def upgraded(request: pytest.FixtureRequest, tmp_path: Path, database_url: str | None) -> Settings:
    dump: Path = request.param
    settings = Settings(
        state=tmp_path / "state", database_url=database_url, seed_starter=False,
        inventory=Inventory(cpu=64, memory=256 * GIB, gpus={"0": "h200"}),
    )  # fmt: skip
    restore(dump, settings)
    (settings.state / "secrets").mkdir(mode=0o700)
    (settings.state / "secrets" / "vault-key").write_bytes(dump.with_suffix(".vault-key").read_bytes())
    return settings


def test_the_first_release_is_kept() -> None:
    assert "moorage-0.1.0" in {dump.stem for dump in DUMPS}


@each_database
def test_a_released_database_is_read_whole_and_worked_with(upgraded: Settings) -> None:
    context = make_context(upgraded)
    with context.database.read() as session:
        for mapper in Table.registry.mappers:
            if mapper.class_.__tablename__ in SINCE_0_1_0:
                continue
            assert session.scalars(select(mapper.class_)).all(), (
                f"the dump has nothing in {mapper.class_.__tablename__}"
            )
        ada = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        starter = session.scalars(select(ProjectRow).where(ProjectRow.slug == "starter")).one()
        found = secrets.values(session, context.vault, user_id=ada.id, project_id=starter.id)
        # As if no time had passed since the dump: what is held there uses up its budgets.
        latest = max(session.scalars(select(ReservationRow.created_at)))
        context.clock = FakeClock()
        context.clock.freeze(latest)
    assert found == {"API_KEY": "a secret of nobody"}

    base = f"{upgraded.public_url}{PREFIX}"
    hub = {"Authorization": f"Bearer {sessions.spawner_token(upgraded)}"}
    with TestClient(create_app(context, background=False), base_url=base) as client:
        body = {
            "user": "ada",
            "admin": False,
            "groups": ["staff"],
            "project": "starter",
            "size": {"cpu": 1, "memory": GIB},
        }
        answer = client.post("/api/v1/notebooks", headers=hub, json=body)
        assert answer.status_code == 201, answer.text
        notebook = {"Authorization": f"Bearer {answer.json()['token']}"}
        clusters = client.get("/api/v1/clusters", headers=notebook).json()
        assert {each["name"] for each in clusters} == {"sweep", "adas-cluster"}
        assert client.get("/api/v1/runs", headers=notebook).json()
        job = client.get("/api/v1/jobs", headers=notebook).json()[0]
        assert (job["name"], job["schedule"]["timezone"]) == ("nightly", "Europe/Berlin")
        # What was admitted before the upgrade still counts: each user may hold 8 cpu.
        body = {"project": "starter", "spec": {"engine": "ray", "max_workers": 5, "worker": {"cpu": 1, "memory": GIB}}}
        answer = client.post("/api/v1/clusters", headers=notebook, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "limit_refused")
    context.hub.close()
