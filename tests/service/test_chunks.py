"""However many workloads are asked about at once, no statement holds more values than any database takes."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event

from moorage.wire import WorkloadKind
from moorage_service.context import Context
from moorage_service.jobs import admittance, execution
from moorage_service.notebooks import reconcile
from moorage_service.recovery.settle import unknown
from moorage_service.store.chunks import CHUNK, chunks
from moorage_service.store.tables import ProjectRow, UserRow
from moorage_service.workloads import lifecycle
from tests.service.conftest import Headers

MANY = [f"nb-{number}" for number in range(3 * CHUNK + 1)]


@pytest.fixture
def longest(context: Context) -> Iterator[list[int]]:
    """How many values each statement held."""
    found: list[int] = []

    def note(_connection: Any, _cursor: Any, _statement: Any, values: Any, *_more: Any) -> None:
        found.append(len(values))

    with context.database.read() as session:
        engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    yield found
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def known(context: Context, project: ProjectRow, ada: Headers) -> str:
    """A notebook that lives."""
    with context.database.begin() as session:
        owner = session.query(UserRow).filter_by(hub_name="ada").one()
        made = lifecycle.new_workload(
            session, kind=WorkloadKind.NOTEBOOK, name="starter", owner_id=owner.id, project_id=project.id, now=context.clock(),
            environment="x", details={},
        )  # fmt: skip
        return made.id


def test_all_are_in_one_chunk_and_in_their_order() -> None:
    found = list(chunks(MANY))
    assert [each for chunk in found for each in chunk] == MANY
    assert max(map(len, found)) == CHUNK
    assert list(chunks([])) == []


def test_settling_asks_in_chunks(context: Context, known: str, longest: list[int]) -> None:
    assert unknown(context, [*MANY, known]) == MANY
    assert max(longest) <= CHUNK + 1


def test_looking_at_notebooks_asks_in_chunks(context: Context, known: str, longest: list[int]) -> None:
    lapsed = list(reconcile.survey(context, [*MANY, known]))
    assert lapsed == [known]  # nothing was reserved for it, and nothing of it runs
    assert max(longest) <= CHUNK + 1


def test_looking_at_runs_asks_in_chunks(context: Context, longest: list[int]) -> None:
    assert list(execution.survey(context, MANY)) == []
    assert list(admittance.needy(context, MANY)) == []
    assert max(longest) <= CHUNK + 1
