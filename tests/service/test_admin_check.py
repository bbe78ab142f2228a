"""`moorage admin check` says what is wrong on a state folder, mends what is safe, and its exit status is for monitoring."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.cli import run
from moorage.cli.session import Session
from moorage.wire import Phase, WorkloadKind
from moorage_service.admin import check as checks
from moorage_service.context import Context
from moorage_service.store.tables import (
    AuditRow,
    ClusterRow,
    EventRow,
    LimitRow,
    ReservationRow,
    TokenRow,
    WorkloadRow,
)
from moorage_service.workloads import lifecycle
from moorage_spawners.launch import Identity, ProcessSpec
from tests.fakes.clock import FakeClock
from tests.service.world import World, make_world

Headers = dict[str, str]
Spoil = Callable[[Context, World], None]


@pytest.fixture
def world(context: Context, people: dict[str, Headers]) -> World:
    return make_world(context, "ada", "adas")


@pytest.fixture
def ended(context: Context, world: World) -> World:
    """All of it in good order, and over."""
    with context.database.begin() as session:
        for workload_id in world.workloads.values():
            row = session.get_one(WorkloadRow, workload_id)
            lifecycle.ended(session, row, Phase.STOPPED, now=context.clock(), code="x.stopped", reason="Stopped.")
    return world


def found(context: Context) -> set[str]:
    return {finding.code for finding in checks.examine(context, patience_s=0).findings}


def moorage(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return run(arguments, Session(out=out, err=err)), out.getvalue(), err.getvalue()


def test_what_is_in_good_order_is_sound(context: Context, ended: World) -> None:
    assert checks.in_words(checks.examine(context, patience_s=0))[0].startswith("Sound: 0 live workloads, 3 ended")


def hold_again(context: Context, world: World) -> None:
    with context.database.begin() as session:
        session.get_one(ReservationRow, world.cluster).released_at = None


def keep_ports(context: Context, world: World) -> None:
    with context.database.begin() as session:
        session.get_one(ClusterRow, world.cluster).port_block = 3


def keep_token(context: Context, world: World) -> None:
    with context.database.begin() as session:
        session.add(TokenRow(hash="0" * 64, workload_id=world.run, generation=1))


def leave_folder(context: Context, world: World) -> None:
    (context.settings.state / "scratch" / world.run).mkdir()


def say_nothing(context: Context, world: World) -> None:
    with context.database.begin() as session:
        session.get_one(WorkloadRow, world.notebook).reason = " "


def live_on(context: Context, world: World) -> None:
    with context.database.begin() as session:
        session.get_one(WorkloadRow, world.run).phase = Phase.RUNNING.value


def run_on(context: Context, world: World) -> None:
    context.machine.start(
        ProcessSpec(
            workload_id=world.notebook, generation=1, role="server", argv=("/bin/sleep", "1000"), env={}, cwd="/", size=None,
            identity=Identity(None, None, "/"),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "codes", "mended"),
    [
        (hold_again, {"held.after_end"}, True),
        (keep_ports, {"orphan.ports"}, True),
        (keep_token, {"orphan.token"}, True),
        (leave_folder, {"orphan.scratch"}, True),
        (run_on, {"orphan.processes", "held.too_short"}, True),
        (say_nothing, {"silent.reason"}, False),
        (live_on, {"lost.phase"}, False),
    ],
)
def test_each_disorder_is_found_and_mended_where_that_is_safe(
    context: Context, ended: World, spoil: Spoil, codes: set[str], mended: bool
) -> None:
    context.settings.stop_grace_s = 0
    spoil(context, ended)
    assert found(context) == codes
    state = str(context.settings.state)
    status, out, _ = moorage("admin", "check", "--state", state, "--patience", "0")
    assert status == 1
    assert out.startswith(f"{len(codes)} findings among 0 live workloads")
    patience = "5" if mended else "0"  # what is mended is seen at once, or as soon as its processes are gone
    status, out, _ = moorage("admin", "check", "--state", state, "--repair", "--patience", patience, "--json")
    told: dict[str, Any] = json.loads(out)
    assert (status, told["sound"], bool(told["repaired"])) == (0 if mended else 1, mended, mended), out
    assert found(context) == (set() if mended else codes)
    with context.database.read() as session:
        audited = session.scalars(select(AuditRow).where(AuditRow.action == "repair")).all()
        told_owner = session.scalars(select(EventRow).where(EventRow.code == "admin.repaired")).all()
    assert bool(audited) == mended
    assert bool(told_owner) == (mended and spoil is not leave_folder)


def test_what_should_run_and_does_not_is_found(context: Context, world: World) -> None:
    assert found(context) == {"record.empty"}


def test_what_takes_too_long_is_found(context: Context, ended: World, clock: FakeClock) -> None:
    with context.database.begin() as session:
        row = session.get_one(WorkloadRow, ended.cluster)
        stuck = lifecycle.new_workload(
            session, kind=WorkloadKind.NOTEBOOK, name="adas", owner_id=row.owner_id, project_id=row.project_id,
            now=context.clock(), details={"size": {"cpu": 1.0, "memory": 1 << 30}},
        )  # fmt: skip
        session.flush()
        lifecycle.record(session, stuck.id, "notebook.admitted", "Admitted.", now=context.clock())
        session.add(
            ReservationRow(
                workload_id=stuck.id, user_id=row.owner_id, project_id=row.project_id, amounts={"notebooks": 1},
                created_at=context.clock(), lease_expires_at=context.clock(),
            )
        )  # fmt: skip
    assert found(context) == set()
    clock.advance(context.settings.admission_lease_s + 61)
    assert found(context) == {"still.pending"}


def test_an_admission_over_a_limit_is_found_and_a_limit_that_was_lowered_is_none(
    context: Context, client: TestClient, ended: World, admin: Headers, clock: FakeClock
) -> None:
    clock.advance(-3600)
    limit = {"scope": "everyone", "resource": "clusters", "amount": 1}
    assert client.post("/api/v1/limits", json=limit, headers=admin).status_code == 201
    clock.advance(3600)
    assert found(context) == set()
    with context.database.begin() as session:
        held = session.get_one(ReservationRow, ended.cluster)
        held.amounts = {**held.amounts, "clusters": 2}
    assert found(context) == {"admitted.over"}
    with context.database.begin() as session:
        held = session.get_one(ReservationRow, ended.cluster)
        held.amounts = {**held.amounts, "clusters": 1}
    clock.advance(60)
    assert client.post("/api/v1/limits", json={**limit, "amount": 0}, headers=admin).status_code == 201
    assert found(context) == set()
    with context.database.read() as session:
        assert session.scalars(select(LimitRow)).one().amount == 0


def test_admins_are_told_by_the_api_and_nobody_else(
    context: Context, client: TestClient, ended: World, admin: Headers, ada: Headers
) -> None:
    hold_again(context, ended)
    answer = client.get("/api/v1/check?patience_s=0", headers=admin).json()
    assert answer["sound"] is False
    assert [finding["code"] for finding in answer["findings"]] == ["held.after_end"]
    assert client.get("/api/v1/check", headers=ada).status_code == 403


def test_what_can_not_be_checked_says_why(tmp_path: Path, context: Context) -> None:
    status, _, err = moorage("admin", "check", "--state", str(tmp_path))
    assert status == 2
    assert "is no state folder of Moorage" in err
