"""What is started, and what is seen of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from moorage.wire.workloads import Size

Object = Mapping[str, Any]  # of the Kubernetes API, as JSON
ProcessState = Literal["starting", "running", "exited", "lost"]


@dataclass(frozen=True)
class Identity:
    """Whose process it is. `uid` and `gid` None: the caller's own. As root each user has a uid of their own."""

    uid: int | None
    gid: int | None
    home: str

    def __post_init__(self) -> None:
        if (self.uid is None) != (self.gid is None):
            raise ValueError(f"an identity has both uid and gid or neither, not uid {self.uid} and gid {self.gid}")
        if self.uid == 0 or self.gid == 0:
            raise ValueError("a workload never runs as root: give it the uid and gid of its user")


@dataclass(frozen=True)
class ProcessSpec:
    """One process of a workload. `env` is its whole environment; `size` caps it where control groups may be written.

    `ports`: the TCP ports that it is told to listen on; whoever else listens there gets nothing from root.
    """

    workload_id: str
    generation: int
    role: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    identity: Identity
    size: Size | None
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()


@dataclass(frozen=True)
class Observation:
    """What is seen of a process.

    `exited`: it and everything it started are gone, for certain. `lost`: its shim was killed and something of it still
    lives; `stop` ends that. An `exited` one with neither `exit_code` nor `signal` ended unseen or never started:
    `message` says so, and `machine_restarted` whether that is why. `out_of_memory`: so many processes of it the kernel
    killed for want of memory, maybe not the first one. `reason`: the stable code of what `message` says, where there is one.
    `size`: what a cluster counts for it, as long as it does.
    """

    workload_id: str
    generation: int
    role: str
    state: ProcessState
    pid: int | None = None
    started_at: str | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: int = 0
    machine_restarted: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None
    reason: str | None = None
    size: Size | None = None

    @property
    def gone(self) -> bool:
        return self.state == "exited"
