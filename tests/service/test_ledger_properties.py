"""Whatever is asked in whatever order, no rule is ever exceeded by what was admitted under it."""

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import Session

from moorage.wire import WorkloadKind
from moorage_service.errors import LimitRefused
from moorage_service.ledger import admission
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.limits import Held, Owner, Rule, counts, standing
from moorage_service.store.tables import LimitRow, ReservationRow, Table, UserRow, WorkloadRow
from tests.service.ledger_rows import NOW, Ledger

DEVICES = {"0": "t4", "1": "t4", "2": "a100"}
MACHINE = Capacity({"cpu": 12_000, "memory": 1 << 40, "gpu": 3, "gpu:t4": 2, "gpu:a100": 1}, DEVICES)
SCOPES = [("everyone", None), ("user", "ada"), ("user", "bob"), ("group", "staff"), ("project", "lab")]

claims = st.tuples(
    st.just("claim"), st.sampled_from(["ada", "bob", "eve"]), st.sampled_from(["lab", "den"]),
    st.sampled_from(list(WorkloadKind)), st.integers(1, 6), st.integers(0, 2), st.sampled_from([None, "t4", "a100"]),
)  # fmt: skip
releases = st.tuples(st.just("release"), st.integers(0, 30))
limits = st.tuples(
    st.just("limit"), st.sampled_from(SCOPES), st.sampled_from(["each", "pool"]),
    st.sampled_from(["cpu", "gpu", "gpu:t4", "clusters", "runs"]), st.integers(0, 12),
)  # fmt: skip
removals = st.tuples(st.just("remove"), st.integers(0, 30))
steps = st.lists(st.one_of(claims, claims, releases, limits, removals), max_size=40)


@given(steps)
@settings(max_examples=60, deadline=None)
def test_no_rule_is_exceeded_by_what_is_admitted_under_it(todo: list[tuple[object, ...]]) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Table.metadata.create_all(engine)
    with Session(engine) as session:
        _play(Ledger(session, MACHINE), todo)
    engine.dispose()


def _play(ledger: Ledger, todo: list[tuple[object, ...]]) -> None:
    users = {
        "ada": ledger.user("ada", "staff"),
        "bob": ledger.user("bob", "staff", "night"),
        "eve": ledger.user("eve"),
    }
    projects = {name: ledger.project(name) for name in ("lab", "den")}
    live: list[WorkloadRow] = []
    made: list[LimitRow] = []
    for step in todo:
        match step:
            case ("claim", str(user), str(project), WorkloadKind() as kind, int(cpu), int(gpu), gpu_type):
                amounts = {"cpu": cpu * 1000, "memory": 1 << 30}
                if gpu:
                    amounts |= {"gpu": gpu} | ({f"gpu:{gpu_type}": gpu} if gpu_type else {})
                before = _reservations(ledger)
                try:
                    claimed = ledger.claim(users[user], projects[project], amounts, kind=kind)
                except LimitRefused as error:
                    _check_refusal(error)
                    assert _reservations(ledger) == before
                else:
                    live.append(claimed)
                    _check(ledger, users[user], projects[project].id)
            case ("release", int(which)) if live:
                ledger.gone(live.pop(which % len(live)))
            case ("limit", (str(scope), name), str(sharing), str(resource), int(amount)):
                held = _reservations(ledger)
                limit = ledger.limit(scope, resource, amount, name=name, sharing=sharing)
                made = [*[each for each in made if each.id != limit.id], limit]
                assert _reservations(ledger) == held  # nothing that runs is touched
            case ("remove", int(which)) if made:
                ledger.session.delete(made.pop(which % len(made)))
                ledger.session.flush()


def _check_refusal(error: LimitRefused) -> None:
    assert error.refusal.used + error.refusal.asked > error.refusal.amount


def _reservations(ledger: Ledger) -> dict[str, dict[str, int]]:
    ledger.session.flush()
    rows = ledger.session.query(ReservationRow).filter(ReservationRow.released_at.is_(None))
    return {row.workload_id: row.amounts for row in rows}


def _check(ledger: Ledger, user: UserRow, project_id: str) -> None:
    """After an admission, every rule that applies to it holds; and no device is with two."""
    owner = admission.owner_of(ledger.session, user.id, project_id)
    held = admission.holdings(ledger.session, now=ledger.now)
    asked = held[-1].amounts
    for rule in admission.rules(ledger.session, ledger.capacity):
        found = standing(rule, owner, held, ledger.now)
        if rule.resource in asked and counts(rule, owner, owner):
            assert found.used <= rule.amount, rule.words
    rows = ledger.session.query(ReservationRow).filter(ReservationRow.released_at.is_(None))
    devices = [device for row in rows for device in row.gpus]
    assert len(devices) == len(set(devices))
    for row in rows:
        assert len(row.gpus) == row.amounts.get("gpu", 0)
        for kind in ("t4", "a100"):
            assert sum(DEVICES[device] == kind for device in row.gpus) == row.amounts.get(f"gpu:{kind}", 0)


spans = st.tuples(st.integers(-7200, 0), st.integers(0, 7200), st.integers(0, 10)).map(
    lambda span: (span[0], min(0, span[0] + span[1]), span[2])
)


@given(st.lists(spans, max_size=8), st.integers(60, 7200))
def test_a_budget_charges_each_second_inside_its_window_once(held: list[tuple[int, int, int]], window: int) -> None:
    owner = Owner(user_id="us-a", project_id="pr-a")
    rule = Rule(
        id="l",
        scope="user",
        scope_id="us-a",
        scope_name="ada",
        sharing="each",
        resource="gpu",
        amount=1,
        window_s=window,
    )
    rows = [
        Held(
            workload_id="w", kind="run", name="r", owner_name="ada", owner=owner, amounts={"gpu": count},
            since=NOW + timedelta(seconds=start), until=NOW + timedelta(seconds=end),
        )
        for start, end, count in held
    ]  # fmt: skip
    by_second = sum(count for start, end, count in held for second in range(start, end) if second >= -window)
    assert standing(rule, owner, rows, NOW).used == by_second
