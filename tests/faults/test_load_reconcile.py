"""Load: a reconcile pass over many workloads that run as they should costs no more for each than a pass over few.

Goal (`make faults`): at 1,000 of a kind under a second, and no worse than linear from 10 over 100 to 1,000.
"""

from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from time import perf_counter, thread_time

import pytest
from sqlalchemy import event, select

from moorage.wire import WorkloadKind
from moorage_service.app import STEPS, SURVEYS
from moorage_service.context import Context
from moorage_service.reconciler.loop import Reconciler
from moorage_service.store.tables import LimitRow, ProjectRow, UserRow
from tests.faults.checking import check
from tests.faults.crowd import Crowd
from tests.faults.figures import Report, Scale
from tests.service.conftest import Headers

FEW_MORE_S = 0.005  # what a pass costs by itself, beside those it looks at


@pytest.fixture
def crowd(context: Context, people: dict[str, Headers], project: ProjectRow) -> Iterator[Crowd]:
    with context.database.read() as session:
        owner = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
    made = Crowd(context, owner, project)
    yield made
    made.close()


class Watched:
    """A reconciler of one kind; `measure` gives statements, write transactions, steps, and seconds of a quiet pass: of the
    processor, for what else the machine does says nothing, and by the clock.
    """

    def __init__(self, context: Context, kind: WorkloadKind) -> None:
        self.steps = self.statements = self.writes = 0
        self._loop = Reconciler(context, kind, self._step, SURVEYS[kind])
        self._kind = kind
        event.listen(context.database.engine, "before_cursor_execute", self._execute)

    def _step(self, context: Context, workload_id: str) -> None:
        self.steps += 1
        STEPS[self._kind](context, workload_id)

    def _execute(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements += 1
        self.writes += statement.startswith("BEGIN IMMEDIATE")

    def measure(self) -> tuple[int, int, int, float, float]:
        self._loop.run_once()  # whatever was to be noted is noted now
        self.steps = self.statements = self.writes = 0
        worked, took = [], []
        for _ in range(5):
            begun, started = perf_counter(), thread_time()
            self._loop.run_once()
            worked.append(thread_time() - started)
            took.append(perf_counter() - begun)
        return self.statements // 5, self.writes, self.steps, median(worked), median(took)


@pytest.mark.parametrize("kind", list(WorkloadKind), ids=lambda kind: kind.value)
def test_a_pass_over_many_costs_no_more_for_each(
    context: Context, crowd: Crowd, kind: WorkloadKind, scale: Scale, report: Report
) -> None:
    sizes = (10, 100, 1000) if scale.full else (10, 100)
    measured, there = {}, 0
    for size in sizes:
        crowd.add(kind, size - there)
        there = size
        measured[size] = Watched(context, kind).measure()
        statements, writes, steps, *_ = measured[size]
        assert (writes, steps) == (0, 0), f"{size} that run as they should are left alone"
        assert statements <= measured[sizes[0]][0], "one look at all, not one for each"
    for fewer, more in pairwise(sizes):
        per_few, per_many = measured[fewer][3] / fewer, (measured[more][3] - FEW_MORE_S) / more
        assert per_many < 3 * per_few, f"{per_few * 1e6:.0f} us each at {fewer}, {per_many * 1e6:.0f} us at {more}"
    if scale.full:
        assert measured[1000][4] < 1, f"{measured[1000][4]:.2f} s"
    report(0, kind=kind.value, statements_in_a_pass=measured[sizes[-1]][0], writes=0,
           **{f"ms_at_{size}": round(1000 * measured[size][4], 1) for size in sizes})  # fmt: skip


def test_runs_that_wait_for_the_same_are_asked_about_once(
    context: Context, crowd: Crowd, scale: Scale, report: Report
) -> None:
    with context.database.begin() as session:
        session.add(LimitRow(scope="everyone", resource="runs", amount=0, created_at=context.clock()))
    measured = {}
    for size, more in ((10, 10), (100, 90)) if not scale.full else ((10, 10), (100, 90), (1000, 900)):
        crowd.add_queued_runs(more)
        measured[size] = Watched(context, WorkloadKind.RUN).measure()
        assert measured[size][1:3] == (0, 0)
        assert measured[size][0] <= measured[10][0]
    check(context, settle_s=0)
    report(0, kind="queued runs", statements_in_a_pass=measured[10][0], writes=0,
           **{f"ms_at_{size}": round(1000 * each[4], 1) for size, each in measured.items()})  # fmt: skip
