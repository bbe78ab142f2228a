"""What this machine lends: cores, memory and GPUs, measured unless the settings say otherwise."""

import shutil
import subprocess
from dataclasses import dataclass, field

import psutil

from moorage_service.ledger.resources import Amounts
from moorage_service.settings import Inventory


@dataclass(frozen=True)
class Capacity:
    """Amounts in the ledger's numbers, and each GPU device with its type."""

    amounts: Amounts
    gpus: dict[str, str] = field(default_factory=dict)


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
