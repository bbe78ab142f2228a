"""How any workload starts on one machine: a shim per process. Free of jupyterhub.

`LocalProcesses` starts, observes and stops; what it starts outlives the process that called it.
"""

from moorage_spawners.launch.errors import LaunchError, OtherGenerationError
from moorage_spawners.launch.local import LocalProcesses
from moorage_spawners.launch.types import Identity, Observation, ProcessSpec, ProcessState

__all__ = [
    "Identity",
    "LaunchError",
    "LocalProcesses",
    "Observation",
    "OtherGenerationError",
    "ProcessSpec",
    "ProcessState",
]
