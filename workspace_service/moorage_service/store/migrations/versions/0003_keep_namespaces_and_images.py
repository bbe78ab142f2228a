"""keep namespaces and images."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Plain columns and an index: a constraint would make SQLite copy the table, which others refer to.
    op.add_column("environments", sa.Column("image", sa.String(length=400), nullable=True))
    op.add_column("environments", sa.Column("base", sa.String(length=400), nullable=True))
    op.add_column("users", sa.Column("namespace", sa.String(length=63), nullable=True))
    op.create_index(op.f("ix_users_namespace"), "users", ["namespace"], unique=True)
