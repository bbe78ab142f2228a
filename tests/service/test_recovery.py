"""A store that was lost: what runs is known again, ended or left, and nobody's process dies of it."""

import os

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import Phase
from moorage_service.app import create_app
from moorage_service.context import Context
from moorage_service.identity import users
from moorage_service.identity.homes import ensure_home
from moorage_service.jobs.execution import step as step_run
from moorage_service.reconciler.leadership import Leadership
from moorage_service.reconciler.wakeup import Wakeup
from moorage_service.recovery import owners
from moorage_service.recovery.settle import settle, unknown
from moorage_service.settings import PREFIX
from moorage_service.store.tables import (
    ClusterRow,
    EventRow,
    LimitRow,
    ProjectRow,
    QuarantineRow,
    ReservationRow,
    UserRow,
    WorkloadRow,
)
from tests.fakes.clock import FakeClock
from tests.service.databases import each_database
from tests.service.town import API, Town, open_state, serve_town  # noqa: F401
from tests.waiting import eventually


@each_database
def test_a_lost_store_is_known_again_from_what_runs(town: Town) -> None:
    ids = {name: getattr(town.row(town.notebook), name) for name in ("owner_id", "project_id")}
    with town.context.database.read() as session:
        uid = session.get_one(UserRow, ids["owner_id"]).uid
        held = {each: session.get_one(ReservationRow, each).amounts for each in town.everything}
        block = session.get_one(ClusterRow, town.cluster).port_block
    town.lose_the_store()
    assert set(unknown(town.context, town.everything)) == set(town.everything)
    settle(town.context)
    town.step()
    assert town.nothing_died()
    with town.context.database.read() as session:
        assert session.get_one(UserRow, ids["owner_id"]).uid == uid
        assert session.get_one(ProjectRow, ids["project_id"]).slug == "starter"
        for each in town.everything:
            reservation = session.get_one(ReservationRow, each)
            assert (reservation.amounts, reservation.bound, reservation.released_at) == (held[each], True, None)
            assert session.scalars(
                select(EventRow).where(EventRow.workload_id == each, EventRow.code == "workload.adopted")
            ).one()
        cluster = session.get_one(ClusterRow, town.cluster)
        assert (cluster.port_block, cluster.scale["workers"], cluster.target_workers) == (
            block,
            ["worker-1", "worker-2"],
            2,
        )
    assert sorted(town.audit()["workload.adopted"]) == sorted(town.everything)


def test_every_token_is_good_again_and_a_create_that_is_repeated_makes_nothing_twice(town: Town) -> None:
    town.lose_the_store()
    settle(town.context)
    shown = town.ask(town.token, f"/notebooks/{town.notebook}").json()
    assert (shown["phase"], shown["url"]) == ("ready", "/user/ada/starter/")
    assert town.ask(town.run_token, f"/runs/{town.run}").status_code == 200
    base = f"{town.context.settings.public_url}{PREFIX}"
    client = TestClient(create_app(town.context, background=False), base_url=base)
    report = {"generation": 1, "ready": True, "versions": {"ray": "2.60.0"}, "wanted": 2,
              "workers": [{"name": f"worker-{number}", "busy": False, "idle_s": 0} for number in (1, 2)]}  # fmt: skip
    answer = client.post(f"{API}/agent/reports", json=report, headers=town.agent)
    assert answer.status_code == 200, answer.text
    assert town.row(town.cluster).phase == Phase.READY.value
    body = {"spec": {"engine": "ray", "min_workers": 2, "max_workers": 3, "worker": {"cpu": 1, "memory": 1 << 30}}}
    again = client.post(f"{API}/clusters", json=body, headers={**town.token, "Idempotency-Key": "once"})
    assert again.json()["id"] == town.cluster


def test_a_run_that_ended_while_the_store_was_lost_has_its_end_recorded(town: Town) -> None:
    town.context.processes.stop(town.run, grace_s=0)
    eventually(lambda: all(seen.gone for seen in town.context.processes.observe(town.run)), what="the run's end")
    town.lose_the_store()
    settle(town.context)
    step_run(town.context, town.run)
    row = town.row(town.run)
    assert (row.phase, row.ended_at is not None) == (Phase.FAILED.value, True)
    assert town.row(town.notebook).phase == Phase.READY.value


def test_adoption_is_never_refused_but_what_is_over_a_limit_is_said(town: Town) -> None:
    town.lose_the_store()
    with town.context.database.begin() as session:
        session.add(LimitRow(scope="everyone", resource="cpu", amount=1000, created_at=town.context.clock()))
    settle(town.context)
    with town.context.database.read() as session:
        said = session.scalars(select(EventRow.message).where(EventRow.code == "workload.adopted")).all()
        assert any(
            "More is held now than the limit allows that each user may hold at most 1 cpu at once" in each
            for each in said
        )
    town.step()
    assert town.nothing_died()


def test_by_policy_what_is_not_known_is_ended_and_said(town: Town) -> None:
    town.lose_the_store()
    town.context.settings.unknown_workloads = "end"
    settle(town.context)
    eventually(lambda: all(seen.gone for seen in town.context.processes.observe_all()), what="the end of all")
    settle(town.context)
    assert town.context.processes.observe_all() == []
    assert sorted(town.audit()["workload.ended_unknown"]) == sorted(town.everything)
    with town.context.database.read() as session:
        assert session.scalars(select(WorkloadRow)).all() == []


def test_by_policy_what_is_not_known_is_left_alone_and_said_once(town: Town) -> None:
    town.lose_the_store()
    town.context.settings.unknown_workloads = "leave"
    settle(town.context)
    settle(town.context)
    assert town.nothing_died()
    assert sorted(town.audit()["workload.left"]) == sorted(town.everything)


def test_a_card_that_can_not_be_read_hinders_no_other_and_is_said(town: Town) -> None:
    path = town.context.settings.state / "workloads" / town.cluster / "service.json"
    path.write_text('{"rows": {"users": [{"id": 3}]}}')
    town.lose_the_store()
    settle(town.context)
    settle(town.context)
    assert town.nothing_died()
    assert town.row(town.notebook).phase == Phase.READY.value
    with town.context.database.read() as session:
        assert session.get(WorkloadRow, town.cluster) is None
        assert "can't be known again" in session.get_one(QuarantineRow, f"unknown/{town.cluster}").reason


def test_a_name_that_somebody_else_has_now_is_not_theirs_who_come_back(town: Town, clock: FakeClock) -> None:
    owner = town.row(town.notebook).owner_id
    town.lose_the_store()
    with town.context.database.begin() as session:
        session.add(UserRow(hub_name="ada", uid=64000, groups=[], created_at=clock()))
        session.add(ProjectRow(slug="starter", name="Another", manifest="", created_at=clock()))
    settle(town.context)
    with town.context.database.read() as session:
        back = session.get_one(UserRow, owner)
        assert back.hub_name.startswith("ada-")
        assert session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one().id != owner
        slugs = set(session.scalars(select(ProjectRow.slug)))
    assert "starter" in slugs
    assert len(slugs) == 2
    assert town.nothing_died()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives uids")
def test_a_uid_that_somebody_else_has_now_is_never_shared(town: Town, clock: FakeClock) -> None:
    with town.context.database.read() as session:
        uid = session.get_one(UserRow, town.row(town.notebook).owner_id).uid
    town.lose_the_store()
    with town.context.database.begin() as session:
        session.add(UserRow(hub_name="eve", uid=uid, groups=[], created_at=clock()))
    settle(town.context)
    with town.context.database.read() as session:
        assert (
            f"its uid {uid} has been given to another"
            in session.get_one(QuarantineRow, f"unknown/{town.notebook}").reason
        )
    assert town.nothing_died()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives uids")
def test_a_uid_that_owns_a_home_is_never_given_again(context: Context, clock: FakeClock) -> None:
    """Whoever owned it is not known any more: their database was lost, and nothing of theirs ran."""
    home = context.settings.state / "homes" / "us-lost"
    home.mkdir()
    os.chown(home, context.settings.uid_first + 4, 0)
    with context.database.begin() as session:
        made = users.ensure_user(session, context.settings, name="ada", admin=False, groups=(), clock=clock)
        assert made.uid == context.settings.uid_first + 5


def test_a_user_of_whom_nothing_runs_comes_back_to_their_own_home(town: Town) -> None:
    with town.context.database.read() as session:
        bob = session.scalars(select(UserRow).where(UserRow.hub_name == "bob")).one()
    ensure_home(town.context.settings, bob)
    with town.context.database.begin() as session:
        users.set_active(
            session, town.context.settings, session.get_one(UserRow, bob.id), False, now=town.context.clock()
        )
    settle(town.context)  # as at any start: what was changed since the home was made is written down
    town.lose_the_store()
    settle(town.context)
    with town.context.database.read() as session:
        back = session.scalars(select(UserRow).where(UserRow.hub_name == "bob")).one()
    assert (back.id, back.uid, back.active) == (bob.id, bob.uid, False)
    assert "bob" in town.audit()["user.known_again"]


def _with_a_home(town: Town, name: str) -> UserRow:
    with town.context.database.read() as session:
        user = session.scalars(select(UserRow).where(UserRow.hub_name == name)).one()
        ensure_home(town.context.settings, user)
        owners.keep(town.context.settings.state, user)
    return user


def _ids_of(town: Town, name: str) -> list[str]:
    with town.context.database.read() as session:
        return list(session.scalars(select(UserRow.id).where(UserRow.hub_name.startswith(name))))


def test_who_takes_over_from_another_settles_a_lost_store_first(town: Town) -> None:
    bob = _with_a_home(town, "bob")
    town.lose_the_store()
    context = town.context
    fence = context.machine.root / "fence"
    other = Leadership(context.database, context.clock, Wakeup(), fence, context.settings.lease_s)
    other._holder = "elsewhere/1/1"
    other.start()
    app = create_app(context)
    with TestClient(app):
        assert not context.leadership.held()
        assert _ids_of(town, "bob") == []
        other.stop()
        eventually(context.leadership.renew, what="the lease")
        eventually(lambda: _ids_of(town, "bob") == [bob.id], what="a settled store")
    town.reopen()


def test_who_signs_in_before_a_lost_store_is_settled_is_who_they_were(town: Town) -> None:
    ada = _with_a_home(town, "ada")
    town.lose_the_store()
    with town.context.database.begin() as session:
        user = users.ensure_user(
            session, town.context.settings, name="ada", admin=False, groups=(), clock=town.context.clock
        )
        assert (user.id, user.uid) == (ada.id, ada.uid)
    settle(town.context)
    assert _ids_of(town, "ada") == [ada.id]
    assert sorted(town.audit()["workload.adopted"]) == sorted(town.everything)
    assert town.nothing_died()


def test_by_policy_who_signs_in_after_a_loss_is_new(town: Town) -> None:
    ada = _with_a_home(town, "ada")
    town.lose_the_store()
    town.context.settings.unknown_workloads = "leave"
    with town.context.database.begin() as session:
        user = users.ensure_user(
            session, town.context.settings, name="ada", admin=False, groups=(), clock=town.context.clock
        )
        assert user.id != ada.id


def test_nothing_that_lies_beside_the_records_shows_a_secret(town: Town) -> None:
    secret = [headers["Authorization"].removeprefix("Bearer ") for headers in (town.token, town.agent, town.run_token)]
    written = [path.read_bytes() for path in (town.context.settings.state / "workloads").rglob("*.json")]
    assert len(written) > 5
    for path in (town.context.settings.state / "workloads").glob("*/service.json"):
        assert path.stat().st_mode & 0o077 == 0
    for each in secret:
        assert not any(each.encode() in content for content in written)
