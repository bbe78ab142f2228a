"""Use over time: exact, whoever asks and however the span is cut; and nobody sees another's."""

import csv
import io
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from moorage.wire import WorkloadKind
from moorage_service import sheets
from moorage_service.context import Context
from moorage_service.ledger.limits import Held, Owner, Rule, standing
from moorage_service.store.tables import ProjectRow, ReservationRow, UserRow
from moorage_service.use.buckets import HOUR, MOST_DAYS, edges_of, spread
from moorage_service.workloads import lifecycle
from tests.fakes.clock import FakeClock
from tests.service.conftest import Headers
from tests.service.databases import each_database
from tests.service.ledger_rows import GIB, NOW

ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Santiago")
moments = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(ZONES).map(ZoneInfo)
days = st.integers(1, MOST_DAYS)
# Begin and length in microseconds before `now`, and the amount.
reservations = st.lists(
    st.tuples(st.integers(-100 * 24 * HOUR, HOUR), st.one_of(st.none(), st.integers(0, 50 * 24 * HOUR)), st.integers(0, 64_000)),
    max_size=12,
)  # fmt: skip


@given(moments, zones, days, reservations)
def test_the_buckets_sum_to_what_a_budget_charges(
    now: datetime, zone: ZoneInfo, span: int, held: list[tuple[int, int | None, int]]
) -> None:
    edges = edges_of(span, now, zone)
    now = now.replace(microsecond=edges[0].microsecond)  # a rule's window is of whole seconds
    owner = Owner(user_id="us-a", project_id="pr-a")
    rows = []
    for begin, length, units in held:
        since = now + timedelta(microseconds=begin)
        until = None if length is None else min(now, since + timedelta(microseconds=length))
        rows.append(
            Held(workload_id="w", kind="run", name="r", owner_name="ada", owner=owner, amounts={"cpu": units}, since=since, until=until)
        )  # fmt: skip
    window = round((now - edges[0]).total_seconds())
    rule = Rule(
        id="l", scope="user", scope_id="us-a", scope_name="ada", sharing="each", resource="cpu", amount=1, window_s=max(1, window)
    )  # fmt: skip
    buckets = [0] * (len(edges) - 1)
    for row in rows:
        for bucket, amount in spread(row.amounts["cpu"], row.since, row.until or now, edges):
            assert amount >= 0
            buckets[bucket] += amount
    charged = standing(rule, owner, rows, now).used if window else 0
    assert abs(sum(buckets) / 1_000_000 - charged) <= 0.5001  # the budget is rounded to whole seconds


@given(moments, zones, days)
def test_a_span_is_cut_without_gaps_and_ends_with_the_bucket_of_now(now: datetime, zone: ZoneInfo, span: int) -> None:
    edges = edges_of(span, now, zone)
    assert all(before < after for before, after in pairwise(edges))
    assert edges[-2] <= now < edges[-1]
    assert len(edges) - 1 == (24 * span if span <= 2 else 4 * span if span <= 14 else span)


def test_a_day_begins_at_midnight_also_when_the_clocks_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    edges = edges_of(30, datetime(2026, 11, 5, 12, tzinfo=UTC), berlin)
    assert {edge.astimezone(berlin).hour for edge in edges} == {0}
    assert sorted({after - before for before, after in pairwise(edges)}) == [timedelta(hours=24), timedelta(hours=25)]


class Past:
    """Reservations of the last days, made directly."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def hold(
        self, user: str, hours_ago: float, hours: float | None, *, cpu: int = 1, kind: WorkloadKind = WorkloadKind.CLUSTER,
        project: str = "starter", gpu: int = 0,
    ) -> str:  # fmt: skip
        now = self.context.clock()
        since = now - timedelta(hours=hours_ago)
        amounts = {
            "cpu": cpu * 1000,
            "memory": 2 * GIB,
            f"{kind.value}s": 1,
            **({"gpu": gpu, "gpu:h200": gpu} if gpu else {}),
        }
        with self.context.database.begin() as session:
            owner = session.scalars(select(UserRow).where(UserRow.hub_name == user)).one()
            where = session.scalar(select(ProjectRow).where(ProjectRow.slug == project))
            if where is None:
                where = ProjectRow(slug=project, name=project, manifest="", created_at=since)
                session.add(where)
                session.flush()
            made = lifecycle.new_workload(
                session, kind=kind, name="w", owner_id=owner.id, project_id=where.id, now=since
            )
            session.flush()
            session.add(
                ReservationRow(
                    workload_id=made.id, user_id=owner.id, project_id=where.id, amounts=amounts, lease_expires_at=since, created_at=since,
                    released_at=None if hours is None else since + timedelta(hours=hours),
                )
            )  # fmt: skip
            return made.id


@pytest.fixture
def past(context: Context, people: dict[str, Headers], project: ProjectRow, clock: FakeClock) -> Past:
    clock.freeze(NOW + timedelta(minutes=30))
    made = Past(context)
    made.hold("ada", 20, 4, cpu=2)
    made.hold("ada", 3, None, cpu=1, kind=WorkloadKind.NOTEBOOK, project="den")
    made.hold("bob", 60, 50, cpu=4, gpu=2)
    return made


@each_database
def test_an_admin_sees_everybodys_by_user_project_and_kind(client: TestClient, past: Past, admin: Headers) -> None:
    def lines(**query: str | int) -> dict[str, float]:
        answer = client.get("/api/v1/use", headers=admin, params={"days": 7, **query}).json()
        assert answer["total"] == pytest.approx(sum(each["total"] for each in answer["lines"]))
        for each in answer["lines"]:
            assert sum(each["amounts"]) == pytest.approx(each["total"])
            assert len(each["amounts"]) == len(answer["edges"]) - 1
        return {each["name"]: each["total"] for each in answer["lines"]}

    assert lines() == {"bob": 200, "ada": 11}
    assert lines(by="project") == {"starter": 208, "den": 3}
    assert lines(by="kind") == {"clusters": 208, "notebooks": 3}
    assert lines(resource="memory") == {"bob": 100, "ada": 14}
    assert lines(resource="gpu:h200") == {"bob": 100}
    assert lines(resource="clusters", days=1) == {
        "bob": pytest.approx(13.5),
        "ada": 4,
    }  # bob's from 07:00 the day before
    assert lines(resource="runs") == {}


def test_the_answer_names_its_unit_and_what_else_can_be_asked(client: TestClient, past: Past, admin: Headers) -> None:
    answer = client.get("/api/v1/use?resource=cpu&days=1&timezone=Asia/Kathmandu", headers=admin).json()
    assert (answer["unit"], answer["capacity"]) == ("core-hours", 8)
    assert answer["edges"][-1] == "2026-11-21T07:15:00.000Z"  # a full hour there
    assert {"cpu", "gpu:h200", "runs"} <= set(answer["resources"])


def test_a_user_sees_only_their_own(client: TestClient, past: Past, ada: Headers, bob: Headers) -> None:
    mine = client.get("/api/v1/me/use?by=project", headers=ada).json()
    assert {each["name"]: each["total"] for each in mine["lines"]} == {"starter": 8, "den": 3}
    assert "gpu:h200" not in mine["resources"]
    assert mine["capacity"] is None
    assert client.get("/api/v1/me/use?by=kind", headers=bob).json()["total"] == 200
    assert client.get("/api/v1/use", headers=ada).status_code == 403
    assert client.get("/api/v1/me/use?by=user", headers=ada).status_code == 422


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("resource=coffee", "resource"),
        ("days=0", "days"),
        ("days=93", "days"),
        ("timezone=Mars/Base", "timezone"),
        ("format=xls", "format"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(client: TestClient, ada: Headers, query: str, field: str) -> None:
    answer = client.get(f"/api/v1/me/use?{query}", headers=ada)
    assert answer.status_code in (400, 422)
    assert field in answer.json()["message"]


def test_as_csv_by_parameter_or_by_header(client: TestClient, past: Past, admin: Headers) -> None:
    answer = client.get("/api/v1/use?days=7&format=csv", headers=admin)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="use-cpu-by-user-7d.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 2 * 28
    assert sum(float(row["amount"]) for row in rows if row["user"] == "bob") == pytest.approx(200)
    assert rows[-1]["end"] == "2026-11-21T06:30:00.000Z"
    same = client.get("/api/v1/use?days=7", headers={**admin, "Accept": "text/csv"})
    assert same.text == answer.text
    assert client.get("/api/v1/use", headers={**admin, "Accept": "application/json"}).json()["by"] == "user"


def test_a_record_that_cannot_be_read_hides_no_other(
    client: TestClient, past: Past, context: Context, admin: Headers
) -> None:
    odd = past.hold("ada", 2, 1, kind=WorkloadKind.RUN)
    with context.database.begin() as session:
        session.execute(text("UPDATE reservations SET amounts = 'no json' WHERE workload_id = :id"), {"id": odd})
    assert client.get("/api/v1/use", headers=admin).json()["total"] == 211
    assert client.get("/api/v1/use?resource=runs", headers=admin).json()["total"] == 1


def test_the_use_of_a_deleted_project_stays_and_says_so(
    client: TestClient, past: Past, context: Context, admin: Headers
) -> None:
    with context.database.begin() as session:
        session.scalars(select(ProjectRow).where(ProjectRow.slug == "den")).one().deleted_at = context.clock()
    past.hold("bob", 1, 1, project="den-2")
    names = [each["name"] for each in client.get("/api/v1/use?by=project", headers=admin).json()["lines"]]
    assert names == ["starter", "den (deleted)", "den-2"]


@given(
    st.lists(
        st.lists(st.one_of(st.text(max_size=20), st.integers(), st.floats(allow_nan=False)), min_size=2, max_size=2)
    )
)
def test_no_cell_of_a_sheet_is_carried_out_and_none_is_lost(rows: list[list[str | int | float]]) -> None:
    written = sheets.as_csv(["a", "b"], rows)
    read = list(csv.reader(io.StringIO(written, newline="")))[1:]
    assert len(read) == len(rows)
    for given_row, row in zip(rows, read, strict=True):
        for given_cell, cell in zip(given_row, row, strict=True):
            assert cell in (str(given_cell), f"'{given_cell}")
            if isinstance(given_cell, str):
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_use_agrees_with_the_ledgers_own_budget(client: TestClient, past: Past, admin: Headers) -> None:
    budget = {"scope": "user", "name": "bob", "resource": "cpu", "amount": 3600, "window_s": 7 * 86400}
    rule = client.post("/api/v1/limits", headers=admin, json=budget).json()
    lines = client.get("/api/v1/use", headers=admin).json()["lines"]
    assert rule["used"] == 3600 * next(each["total"] for each in lines if each["name"] == "bob")
