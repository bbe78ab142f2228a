"""Users, projects and claims made directly in the store, for tests of the ledger."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from moorage.wire import LimitRequest, Remaining, WorkloadKind
from moorage_service.identity.callers import Caller
from moorage_service.ledger import admission, operations
from moorage_service.ledger.inventory import Capacity
from moorage_service.ledger.resources import Amounts
from moorage_service.store.tables import LimitRow, ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
GIB = 1 << 30
ROOM = Capacity({"cpu": 64_000, "memory": 256 * GIB, "gpu": 0})
ADMIN = Caller(user_id="us-admin", name="root", admin=True, via="hub")


@dataclass
class Ledger:
    """One session, one clock; `claim` admits as the services do."""

    session: Session
    capacity: Capacity = ROOM
    now: datetime = NOW

    def user(self, name: str, *groups: str) -> UserRow:
        row = UserRow(hub_name=name, groups=sorted(groups), created_at=NOW)
        self.session.add(row)
        self.session.flush()
        return row

    def project(self, slug: str) -> ProjectRow:
        row = ProjectRow(slug=slug, name=slug, manifest="", created_at=NOW)
        self.session.add(row)
        self.session.flush()
        return row

    def limit(self, scope: str, resource: str, amount: float, **given: object) -> LimitRow:
        request = LimitRequest(scope=scope, resource=resource, amount=amount, **given)  # type: ignore[arg-type]
        return operations.set_limit(self.session, ADMIN, request, now=self.now)

    def claim(
        self, user: UserRow, project: ProjectRow, amounts: Amounts, *, kind: WorkloadKind = WorkloadKind.CLUSTER,
        name: str = "c", show_others: bool = False,
    ) -> WorkloadRow:  # fmt: skip
        workload = lifecycle.new_workload(
            self.session, kind=kind, name=name, owner_id=user.id, project_id=project.id, now=self.now
        )
        try:
            admission.admit(
                self.session, self.capacity, workload, amounts, now=self.now, lease_s=60, show_others=show_others
            )
        except Exception:
            self.session.expunge(workload)
            raise
        return workload

    def remaining(self, user: UserRow, project: ProjectRow) -> list[Remaining]:
        held = admission.holdings(self.session, now=self.now)
        return admission.remaining(self.session, self.capacity, held, user.id, project.id, now=self.now)

    def gone(self, workload: WorkloadRow) -> None:
        admission.release(self.session, workload.id, now=self.now)
        self.session.flush()

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
