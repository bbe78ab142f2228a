"""How any workload starts: on one machine a shim per process, in Kubernetes a pod. Free of jupyterhub.

`LocalProcesses` starts, observes and stops; what it starts outlives the process that called it. For Kubernetes: `pods` and
`namespaces` (pure manifests), `watch` (what there is), `observed` (as observations) and `reasons` (why not), imported from there:
who needs one machine alone loads no client of a cluster.
"""

from moorage_spawners.launch.errors import LaunchError, OtherGenerationError, WallError
from moorage_spawners.launch.local import LocalProcesses
from moorage_spawners.launch.processes import Processes
from moorage_spawners.launch.types import Identity, Observation, ProcessSpec, ProcessState
from moorage_spawners.launch.wall import PortWall

__all__ = [
    "Identity",
    "LaunchError",
    "LocalProcesses",
    "Observation",
    "OtherGenerationError",
    "PortWall",
    "ProcessSpec",
    "ProcessState",
    "Processes",
    "WallError",
]
