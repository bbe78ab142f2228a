"""What a form of sizes starts from: presets, bounds and what is left, all as the server knows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moorage.wire import Remaining, Size
from moorage_service.context import Context
from moorage_service.ledger import gpus
from moorage_service.ledger.inventory import Capacity
from moorage_service.portal import words

GIB = 1 << 30
_PRESETS = (
    ("Small", Size(cpu=1, memory=2 * GIB)),
    ("Medium", Size(cpu=2, memory=8 * GIB)),
    ("Large", Size(cpu=4, memory=16 * GIB)),
)


@dataclass(frozen=True)
class Preset:
    name: str
    size: Size
    fits: bool

    @property
    def fields(self) -> dict[str, str]:
        """What pressing it puts into the form's fields."""
        kind = {"gpu_type": self.size.gpu_type} if self.size.gpu_type else {}
        return {"cpu": words.number(self.size.cpu), "memory_gib": words.gib(self.size.memory), "gpu": str(self.size.gpu), **kind}


def default_size(context: Context) -> Size:
    given = context.settings.notebook_size
    return Size(cpu=given.cpu, memory=given.memory)


def choices(remaining: Sequence[Remaining], default: Size, capacity: Capacity) -> dict[str, Any]:
    """What `parts.size_fields` and its script are given."""
    left = {item.resource: item.left for item in remaining}
    gpu_types = sorted({*capacity.gpu_types, *(name[4:] for name in left if name.startswith("gpu:"))})
    sizes = [("Default", default)] if default not in [size for _, size in _PRESETS] else []
    sizes += _PRESETS
    if left.get("gpu", len(gpu_types)):
        kind = next((kind for kind in gpu_types if left.get(f"gpu:{kind}", 1)), None)
        sizes.append(("With a GPU", Size(cpu=2, memory=8 * GIB, gpu=1, gpu_type=kind)))
    return {
        "left": {name: left[name] for name in ("cpu", "memory", "gpu") if name in left},
        "gpu_types": gpu_types,
        "any_gpu": not gpus.by_type_only(capacity, left),
        "presets": [Preset(name, size, _fits(size, left)) for name, size in sizes],
        "most_cpu": words.number(max(1.0, _half_steps(left.get("cpu", 8)))),
        "most_gib": words.number(max(1.0, _half_steps(left.get("memory", 16 * GIB) / GIB))),
    }


def _fits(size: Size, left: dict[str, float]) -> bool:
    return (
        size.cpu <= left.get("cpu", size.cpu)
        and size.memory <= left.get("memory", size.memory)
        and size.gpu <= left.get("gpu", size.gpu)
    )


def _half_steps(value: float) -> float:
    return int(value * 2) / 2
