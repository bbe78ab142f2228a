"""Fields of forms as the wire's values. A field that can't be read raises BadRequest: field, value, remedy."""

import re

from moorage.quantities import MOST
from moorage.wire import Size
from moorage_service.errors import BadRequest

GIB = 1 << 30
_NUMBER = re.compile(r"-?[0-9]{1,20}([.,][0-9]{1,20})?")  # no exponent: nobody means 1e9 cores


def number(text: str, field: str, *, example: str = "1") -> float:
    bare = text.strip(" \t\r\n")
    if not _NUMBER.fullmatch(bare):
        raise BadRequest(f"{field}: {bare[:40]!r} is not a number. Write one such as {example}.", field=field)
    value = float(bare.replace(",", "."))
    if abs(value) > MOST:
        raise BadRequest(f"{field}: {bare[:40]!r} is too large. Write less, such as {example}.", field=field)
    return value


def whole(text: str, field: str, *, empty: int = 0) -> int:
    if not text.strip():
        return empty
    value = number(text, field)
    if value != int(value):
        raise BadRequest(f"{field}: {text.strip()[:40]!r} is not a whole number. Write one such as 1.", field=field)
    return int(value)


def size(*, cpu: str, memory_gib: str, gpu: str = "", gpu_type: str = "") -> Size:
    """One machine's size. Whether it can be had is for the ledger to say."""
    count = whole(gpu, "GPUs")
    return Size(
        cpu=number(cpu, "CPU"), memory=round(number(memory_gib, "Memory", example="2") * GIB),
        gpu=count, gpu_type=(gpu_type.strip() or None) if count else None,
    )  # fmt: skip


def optional(text: str) -> str | None:
    return text.strip() or None
