"""What this machine lends: cores, memory and GPUs, measured unless the settings say otherwise. A cluster lends what it is told to."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil

from moorage_service.ledger.resources import Amounts
from moorage_service.settings import Inventory
from moorage_spawners.launch.kubernetes_settings import GpuType


@dataclass(frozen=True)
class Capacity:
    """Amounts in the ledger's numbers, and each GPU device with its type.

    `cluster`: it is one, which gives out devices by itself, and `kinds` are the types of GPUs that may be asked for there.
    """

    amounts: Amounts
    gpus: dict[str, str] = field(default_factory=dict)
    cluster: bool = False
    kinds: frozenset[str] = frozenset()

    @property
    def gpu_types(self) -> frozenset[str]:
        return self.kinds if self.cluster else frozenset(self.gpus.values())


def measure(inventory: Inventory) -> Capacity:
    gpus = inventory.gpus if inventory.gpus is not None else find_gpus()
    cpu = (
        inventory.cpu if inventory.cpu is not None else len(psutil.Process().cpu_affinity()) * inventory.cpu_overcommit
    )
    memory = inventory.memory if inventory.memory is not None else int(psutil.virtual_memory().total * 0.9)
    amounts: Amounts = {"cpu": round(cpu * 1000), "memory": memory, "gpu": len(gpus)}
    for kind in gpus.values():
        amounts[f"gpu:{kind}"] = amounts.get(f"gpu:{kind}", 0) + 1
    return Capacity(amounts, dict(gpus))


def of_cluster(inventory: Inventory, types: Mapping[str, GpuType]) -> Capacity:
    """What is not told is not bounded here: the cluster may grow, and says itself when it has no room."""
    amounts: Amounts = {}
    if inventory.cpu is not None:
        amounts["cpu"] = round(inventory.cpu * 1000)
    if inventory.memory is not None:
        amounts["memory"] = inventory.memory
    counted = {f"gpu:{name}": each.count for name, each in types.items() if each.count is not None}
    if len(counted) == len(types):
        amounts["gpu"] = sum(counted.values())
    return Capacity({**amounts, **counted}, cluster=True, kinds=frozenset(types))


def find_gpus() -> dict[str, str]:
    """NVIDIA devices by UUID with a short type ("NVIDIA H200" -> "h200"); empty where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    try:
        text = subprocess.run(
            [program, "--query-gpu=uuid,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.split(",", 1) for line in text.splitlines() if "," in line)
    return {uuid.strip(): short_type(name) for uuid, name in pairs}


def short_type(name: str) -> str:
    """The model's word: "NVIDIA A100-SXM4-80GB" -> "a100", "Tesla T4" -> "t4"."""
    words = [
        word for word in name.lower().replace("-", " ").split() if word not in ("nvidia", "tesla", "geforce", "quadro")
    ]
    return words[0] if words else "gpu"
