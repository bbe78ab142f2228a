"""Amounts of resources, as the ledger counts them: whole numbers, cpu in thousandths of a core.

`Amounts` maps a resource ("cpu", "memory", "gpu", "gpu:<type>", "notebooks", "clusters", "runs") to such a number.
"""

import re
from collections.abc import Mapping

from moorage.quantities import MOST
from moorage.wire import Size, WorkloadKind
from moorage_service.errors import BadRequest

Amounts = dict[str, int]
COUNTED = {WorkloadKind.NOTEBOOK: "notebooks", WorkloadKind.CLUSTER: "clusters", WorkloadKind.RUN: "runs"}
_GPU_TYPE = re.compile(r"gpu:[a-z0-9][a-z0-9.-]{0,40}\Z")


def to_units(resource: str, amount: float, *, field: str = "amount") -> int:
    """From cores, bytes or counts to the ledger's numbers. Raises BadRequest naming `field`."""
    if not amount >= 0:  # NaN as well
        raise BadRequest(f"{field}: {amount!s:.40} is not an amount. Give a number from 0 up.", field=field)
    units = 0 if amount > MOST else round(amount * 1000) if resource == "cpu" else round(amount)
    if amount > MOST or units > MOST:
        raise BadRequest(f"{field}: this is more than any machine has. Give a smaller number.", field=field)
    return units


def from_units(resource: str, units: int | float) -> float:
    return units / 1000 if resource == "cpu" else float(units)


def check_resource(resource: str, *, field: str = "resource") -> str:
    if resource in ("cpu", "memory", "gpu", *COUNTED.values()) or _GPU_TYPE.match(resource):
        return resource
    raise BadRequest(
        f"{field}: {resource!r} is not a resource. Use cpu, memory, gpu, gpu:<type>, notebooks, clusters or runs.",
        field=field,
    )


def of_size(size: Size, *, count: int = 1) -> Amounts:
    """What `count` machines of this size hold. Raises BadRequest for a size that can't be."""
    if not size.cpu >= 0.1:  # NaN as well
        raise BadRequest(f"cpu: {size.cpu} is too little. Ask for at least 0.1 core.", field="cpu")
    if size.memory < 64 << 20:
        raise BadRequest(f"memory: {size.memory} bytes is too little. Ask for at least 64 MiB.", field="memory")
    if size.gpu_type is not None and not _GPU_TYPE.match(f"gpu:{size.gpu_type}"):
        raise BadRequest(
            f"gpu_type: {size.gpu_type!r} is not a type of GPU. Use lower-case letters, digits, dots and hyphens.",
            field="gpu_type",
        )
    if size.gpu < 0:
        raise BadRequest(f"gpu: {size.gpu} is not a count. Give a number from 0 up.", field="gpu")
    amounts = {
        "cpu": to_units("cpu", size.cpu, field="cpu") * count,
        "memory": to_units("memory", size.memory, field="memory") * count,
    }
    if size.gpu:
        amounts["gpu"] = to_units("gpu", size.gpu, field="gpu") * count
        if size.gpu_type is not None:
            amounts[f"gpu:{size.gpu_type}"] = amounts["gpu"]
    return amounts


def add(*parts: Mapping[str, int]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for resource, units in part.items():
            total[resource] = total.get(resource, 0) + units
    return total


def in_words(resource: str, units: int | float) -> str:
    """ "1.5 cpu", "2 GiB memory", "1 gpu:h200", "3 clusters"."""
    if resource == "memory":
        for name, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
            if units >= factor:
                return f"{_short(units / factor)} {name} memory"
        return f"{units:.0f} bytes memory"
    text = _short(from_units(resource, units))
    return f"{text} {resource[:-1] if text == '1' and resource.endswith('s') else resource}"


def in_words_over_time(resource: str, unit_seconds: int | float) -> str:
    """Of a budget: "2 cpu-hours", "90 gpu-seconds", "4 GiB memory-hours"."""
    if unit_seconds >= (1 << 20 if resource == "memory" else 1 / from_units(resource, 1)) * 3600:
        return f"{in_words(resource, unit_seconds / 3600)}-hours"
    return f"{in_words(resource, unit_seconds)}-seconds"


def _short(amount: float) -> str:
    """At most three digits after the point, never a power of ten."""
    return f"{amount:.3f}".rstrip("0").rstrip(".") if amount else "0"
