"""What an admission answers the spawner, and what has to be there before it does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.orm import Session

from moorage.wire import NotebookAdmission
from moorage_service.store.tables import ProjectRow, UserRow, WorkloadRow


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """The rows of a notebook that was admitted, in their session. `token`: the workload's own; empty of one that runs already."""

    workload: WorkloadRow
    user: UserRow
    project: ProjectRow
    token: str
    gpus: list[str]

    @property
    def runs(self) -> bool:
        return not self.token


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """`secrets` and `quota`: what is made ready in the user's namespace, where they have one."""

    admission: NotebookAdmission
    secrets: Mapping[str, str] = field(default_factory=dict)
    quota: Mapping[str, str] = field(default_factory=dict)


class Platform(Protocol):
    def arrange(self, session: Session, admitted: Admitted) -> Arrangement:
        """Within the admission's transaction. Raises Conflict when the notebook can't start here."""

    def prepare(self, arrangement: Arrangement, user: UserRow) -> None:
        """After the admission's transaction, and again whenever it was cut off. Raises Conflict, Unavailable: with nothing to start."""
