"""A row as JSON, and back."""

import base64
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary, inspect

from moorage_service.store.tables import Moment, Table


def to_json(row: Table, *, without: Collection[str] = ()) -> dict[str, Any]:
    values = {}
    for column in inspect(type(row)).columns:
        if column.key in without:
            continue
        value = getattr(row, column.key)
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        values[column.key] = value
    return values


def to_values(model: type[Table], stored: dict[str, Any]) -> dict[str, Any]:
    """A row's values from JSON. Columns that this program does not have are left out. Raises ValueError or TypeError for others."""
    values = {}
    for column in inspect(model).columns:
        if column.key not in stored:
            continue
        value = stored[column.key]
        if value is not None and isinstance(column.type, Moment):
            value = datetime.fromisoformat(value)
        elif value is not None and isinstance(column.type, LargeBinary):
            value = base64.b64decode(value, validate=True)
        values[column.key] = value
    return values
