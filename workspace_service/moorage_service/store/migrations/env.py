"""What Alembic runs: the steps on the connection that `migrations` hands over."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from moorage_service.store.tables import Moment, Table


def render(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """A step names the database's types, not our classes, which may change after it."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Moment) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    render_item=render,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
