"""Many at once: what is admitted fits, on both databases, with real threads and connections."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from moorage.wire import LimitRequest, NotebookRequest, Phase, Size, WorkloadKind
from moorage_service.clock import utc_now
from moorage_service.context import Context
from moorage_service.errors import Conflict, LimitRefused
from moorage_service.identity.idempotency import recall, remember
from moorage_service.identity.users import sign_in
from moorage_service.ledger import admission, operations
from moorage_service.notebooks import operations as notebooks
from moorage_service.store.tables import EventRow, ProjectRow, ReservationRow, TokenRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.service.databases import each_database
from tests.service.ledger_rows import ADMIN, GIB

THREADS = 12


def all_at_once(action: object, times: int = THREADS) -> Counter[str]:
    """What each of the threads gave, or the name of what it raised; all start together."""
    gate = threading.Barrier(times)

    def one(number: int) -> str:
        gate.wait()
        try:
            return str(action(number))  # type: ignore[operator]
        except (LimitRefused, Conflict) as error:
            return error.code

    with ThreadPoolExecutor(times) as pool:
        return Counter(pool.map(one, range(times)))


@each_database
def test_of_many_claims_at_once_exactly_those_that_fit_are_admitted(
    context: Context, project: ProjectRow, people: dict[str, dict[str, str]]
) -> None:
    with context.database.begin() as session:
        limit = LimitRequest(scope="project", name="starter", sharing="pool", resource="clusters", amount=3)
        operations.set_limit(session, ADMIN, limit, now=utc_now())
        owners = list(session.scalars(select(UserRow.id)))

    def claim(number: int) -> str:
        with context.database.begin() as session:
            workload = lifecycle.new_workload(
                session, kind=WorkloadKind.CLUSTER, name=f"c{number}", owner_id=owners[number % len(owners)],
                project_id=project.id, now=utc_now(),
            )  # fmt: skip
            admission.admit(session, context.capacity, workload, {"cpu": 100, "memory": GIB}, now=utc_now(), lease_s=60)
        return "admitted"

    assert all_at_once(claim) == {"admitted": 3, "limit_refused": THREADS - 3}
    with context.database.read() as session:
        assert session.scalar(select(func.count()).select_from(ReservationRow)) == 3
        # What was refused left nothing behind.
        assert session.scalar(select(func.count()).select_from(WorkloadRow)) == 3


@each_database
def test_a_notebook_asked_for_twice_at_once_is_admitted_once(context: Context, project: ProjectRow) -> None:
    request = NotebookRequest(user="ada", admin=False, project="starter", size=Size(cpu=0.1, memory=GIB))

    def start(_number: int) -> str:
        notebooks.admit(context, request)
        return "admitted"

    assert all_at_once(start) == {"admitted": 1, "notebook_exists": THREADS - 1}


@each_database
def test_a_user_seen_by_many_requests_at_once_is_made_once(context: Context) -> None:
    def see(_number: int) -> str:
        return sign_in(
            context.database, context.settings, name="ada", admin=False, groups=("staff",), clock=context.clock
        ).id

    assert len(all_at_once(see)) == 1


@each_database
def test_a_create_repeated_at_once_with_its_key_makes_one_thing(
    context: Context, people: dict[str, dict[str, str]]
) -> None:
    made: list[int] = []

    def create(number: int) -> str:
        with context.database.begin() as session:
            before = recall(session, user_id="us-ada", action="thing", key="k1")
            if before is not None:
                return before
            made.append(number)
            remember(session, user_id="us-ada", action="thing", key="k1", result=f"thing-{number}", clock=utc_now)
            return f"thing-{number}"

    assert len(all_at_once(create)) == 1
    assert len(made) == 1


@each_database
def test_the_end_of_a_workload_releases_what_it_holds_and_kills_its_token(
    context: Context, project: ProjectRow
) -> None:
    request = NotebookRequest(user="ada", admin=False, project="starter", size=Size(cpu=1, memory=GIB))
    given = notebooks.admit(context, request)
    with context.database.begin() as session:
        workload = session.get_one(WorkloadRow, given.workload_id)
        now = context.clock()
        lifecycle.ended(session, workload, Phase.STOPPED, now=now, reason="Stopped.")
        lifecycle.ended(session, workload, Phase.FAILED, now=now, reason="Again.")
    with context.database.read() as session:
        reservation = session.get_one(ReservationRow, given.workload_id)
        assert reservation.released_at == now
        assert session.get_one(WorkloadRow, given.workload_id).phase == "stopped"
        assert session.scalar(select(func.count()).select_from(TokenRow)) == 0
        codes = session.scalars(select(EventRow.code).order_by(EventRow.id)).all()
        assert codes == ["notebook.admitted", "notebook.stopped"]
