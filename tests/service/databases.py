"""A test marked `@each_database` runs on SQLite and on PostgreSQL."""

import pytest

each_database = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
