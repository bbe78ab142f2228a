"""Locks by name, held until the transaction ends.

On SQLite a write transaction holds the one write lock from its beginning, so these change nothing there. On PostgreSQL they are rows,
taken in sorted order. Who takes more than one set in a transaction takes them in this order, or two may wait for each other:
`creates:<user>`, then `jobs:<project>`, `users`, `notebook:<user>:<project>` or `limits`, then the scopes of an admission.
"""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from moorage_service.store.tables import ScopeRow


def lock(session: Session, names: Iterable[str]) -> None:
    """Waits until no other transaction holds any of `names`, and holds them all. What is read afterwards is not stale."""
    keys = sorted(set(names))
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(ScopeRow).values([{"key": key} for key in keys]).on_conflict_do_nothing())
    session.scalars(select(ScopeRow).where(ScopeRow.key.in_(keys)).order_by(ScopeRow.key).with_for_update()).all()


def may_write(session: Session) -> bool:
    """Whether it is one of `Database.begin`."""
    return bool(session.connection().get_execution_options().get("moorage_write"))


def side_by_side(session: Session) -> bool:
    """Whether other transactions may write at the same moment: not on SQLite."""
    return session.get_bind().dialect.name != "sqlite"
