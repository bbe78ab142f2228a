"""The tables of settings as docs/admin.md shows them, from the classes themselves."""

import re
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def table_of(model: type[BaseModel]) -> list[str]:
    """One row for each field: name, default, meaning."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no description"
        rows.append(f"| `{name}` | {_default(field)} | {field.description.replace('|', chr(92) + '|')} |")
    return rows


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "set by `make up`"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_none=True)
        parts = ", ".join(f"{name}: {_short(part)}" for name, part in given.items())
        return f"`{{{parts}}}`"
    if isinstance(value, Path) or value in (None, "", [], {}):
        return ""
    if isinstance(value, str) and Path(value).is_absolute():
        return ""  # found on this machine
    return f"`{_short(value)}`"


def _short(value: object) -> str:
    return re.sub(r"[.]0$", "", str(value).lower() if isinstance(value, bool) else str(value))
