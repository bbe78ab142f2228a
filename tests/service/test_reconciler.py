"""The loop: it wakes at changes, tries again later and later, and tells the owner."""

import threading
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select

from moorage.wire import Phase, WorkloadKind
from moorage_service.context import Context
from moorage_service.reconciler.loop import TOLD_AFTER, Reconciler
from moorage_service.reconciler.wakeup import Wakeup
from moorage_service.store.tables import EventRow, ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.service.databases import each_database
from tests.waiting import eventually

Headers = dict[str, str]


def add_notebook(context: Context, project: ProjectRow, name: str = "n") -> str:
    with context.database.begin() as session:
        owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
        row = lifecycle.new_workload(
            session,
            kind=WorkloadKind.NOTEBOOK,
            name=name,
            owner_id=owner.id,
            project_id=project.id,
            now=context.clock(),
        )
        return row.id


def test_every_live_workload_of_the_kind_is_looked_at_and_no_other(
    context: Context, project: ProjectRow, ada: Headers
) -> None:
    first, second, over = (add_notebook(context, project) for _ in range(3))
    with context.database.begin() as session:
        lifecycle.ended(session, session.get_one(WorkloadRow, over), Phase.STOPPED, now=context.clock())
    seen: list[str] = []
    Reconciler(context, WorkloadKind.NOTEBOOK, lambda _, workload: seen.append(workload)).run_once()
    assert sorted(seen) == sorted([first, second])
    Reconciler(context, WorkloadKind.CLUSTER, lambda _, workload: seen.append(workload)).run_once()
    assert len(seen) == 2


def test_a_step_that_fails_is_tried_again_and_hinders_no_other(
    context: Context, project: ProjectRow, ada: Headers
) -> None:
    bad, good = add_notebook(context, project, "bad"), add_notebook(context, project, "good")
    seen: Counter[str] = Counter()

    def step(_context: Context, workload: str) -> None:
        seen[workload] += 1
        if workload == bad:
            raise RuntimeError("broken record")

    loop = Reconciler(context, WorkloadKind.NOTEBOOK, step)

    def attempts() -> bool:
        loop.run_once()
        return seen[bad] >= TOLD_AFTER

    eventually(attempts, what="three attempts")
    assert seen[good] > seen[bad]  # the pauses between attempts grow
    with context.database.read() as session:
        event = session.scalars(select(EventRow)).one()
    assert (event.workload_id, event.code) == (bad, "reconcile.trouble")
    assert "RuntimeError" in event.message


def test_a_step_that_has_failed_for_days_still_hinders_no_other(
    context: Context, project: ProjectRow, ada: Headers
) -> None:
    context.settings.reconcile_s = 0.0  # no pauses
    bad, good = add_notebook(context, project, "bad"), add_notebook(context, project, "good")
    seen: Counter[str] = Counter()

    def step(_context: Context, workload: str) -> None:
        seen[workload] += 1
        if workload == bad:
            raise RuntimeError("broken record")

    loop = Reconciler(context, WorkloadKind.NOTEBOOK, step)
    for _ in range(1100):
        loop.run_once()
    assert seen[good] == seen[bad] == 1100


@each_database
def test_a_reason_that_quotes_what_no_store_takes_is_kept_without_it(
    context: Context, project: ProjectRow, ada: Headers
) -> None:
    notebook = add_notebook(context, project)
    with context.database.begin() as session:
        row = session.get_one(WorkloadRow, notebook)
        lifecycle.ended(session, row, Phase.FAILED, now=context.clock(), reason="ValueError: a\0b \ud800.")
    with context.database.read() as session:
        assert session.get_one(WorkloadRow, notebook).reason == "ValueError: ab ?."
        assert session.scalars(select(EventRow)).one().message == "ValueError: ab ?."


def test_a_change_wakes_the_loop_at_once(context: Context, project: ProjectRow, ada: Headers) -> None:
    context.settings.reconcile_s = 3600
    seen = threading.Event()
    loop = Reconciler(context, WorkloadKind.NOTEBOOK, lambda _context, _workload: seen.set())
    loop.start()
    try:
        add_notebook(context, project)
        context.wakeup.notify()
        assert seen.wait(30)
    finally:
        loop.stop()


def test_a_change_between_two_waits_is_not_missed() -> None:
    wakeup = Wakeup()
    seen = wakeup.changes
    wakeup.notify()
    assert wakeup.wait(seen, timeout_s=3600) == seen + 1


def test_only_those_that_the_survey_names_are_stepped_and_those_that_failed_before(
    context: Context, project: ProjectRow, ada: Headers
) -> None:
    context.settings.reconcile_s = 0.0  # no pauses
    quiet, needy = add_notebook(context, project, "quiet"), add_notebook(context, project, "needy")
    named, stepped = [[needy], [], []], []

    def step(_context: Context, workload: str) -> None:
        stepped.append(workload)
        if len(stepped) == 1:
            raise RuntimeError("once")

    loop = Reconciler(context, WorkloadKind.NOTEBOOK, step, lambda _context, _live: named.pop(0))
    for _ in range(3):
        loop.run_once()
    assert stepped == [needy, needy]
    assert quiet not in stepped


def test_a_survey_that_fails_hides_nothing(context: Context, project: ProjectRow, ada: Headers) -> None:
    notebook = add_notebook(context, project)
    stepped: list[str] = []

    def survey(_context: Context, _live: Sequence[str]) -> list[str]:
        raise RuntimeError("odd row")

    loop = Reconciler(context, WorkloadKind.NOTEBOOK, lambda _context, workload: stepped.append(workload), survey)
    loop.run_once()
    assert stepped == [notebook]
