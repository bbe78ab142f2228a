"""What becomes of the work of a user whom an admin has disabled.

Their sessions and tokens are refused from the first moment (`callers`). Their schedules go on being looked at and are recorded as
skipped; what waits to run is skipped; what executes already finishes. Notebooks and clusters of their own end here, `disabled_grace_s`
after the user was disabled. Nothing is deleted: enabled again, the user finds everything as it was, and no fire is made up for.
"""

from datetime import timedelta

from sqlalchemy import Select, or_, select

from moorage_service.context import Context
from moorage_service.store.tables import UserRow, WorkloadRow
from moorage_service.workloads import lifecycle


def end_work(context: Context) -> None:
    """Asks the notebooks and clusters of users disabled for long enough to end. A run's cluster is the run's."""
    with context.database.read() as session:
        due = list(session.execute(_due(context)))
    if not due:
        return
    with context.database.begin() as session:
        for workload, name in session.execute(_due(context)).all():
            reason = f"Ended because an admin disabled the user {name!r}. Their files are kept."
            lifecycle.ask_to_end(session, workload, now=context.clock(), reason=reason)
    context.wakeup.notify()


def _due(context: Context) -> Select[WorkloadRow, str]:
    before = context.clock() - timedelta(seconds=context.settings.disabled_grace_s)
    return (
        select(WorkloadRow, UserRow.hub_name)
        .join(UserRow, UserRow.id == WorkloadRow.owner_id)
        .where(
            # Disabled before there was a time to note: long ago.
            UserRow.active.is_(False), or_(UserRow.disabled_at.is_(None), UserRow.disabled_at <= before),
            WorkloadRow.kind.in_(("notebook", "cluster")), WorkloadRow.parent_id.is_(None), WorkloadRow.target == "running",
            WorkloadRow.ended_at.is_(None),
        )
    )  # fmt: skip
