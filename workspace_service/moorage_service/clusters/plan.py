"""A cluster as a plan: what each of its processes is, free of where it runs.

An engine makes the plan (pure); a platform carries it out: as processes of this machine, or as a manifest for an operator.
Credentials are named here, never held: `secret_env` and `files` say under which name of the credentials the value is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from moorage.wire import ClusterSpec, Size

HEAD = "head"
NAME = "{name}"  # stands for the worker's own name in a worker's plan


@dataclass(frozen=True, kw_only=True)
class RolePlan:
    """One process: a program of the engine with its flags (None: a bare flag), environment and size."""

    program: tuple[str, ...]
    flags: Mapping[str, str | None] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    size: Size

    def command(self) -> tuple[str, ...]:
        options = [f"--{name}" if value is None else f"--{name}={value}" for name, value in self.flags.items()]
        return (*self.program, *self.arguments, *options)

    def named(self, name: str) -> "RolePlan":
        """The plan of one worker, from the plan of any."""
        return replace(
            self,
            flags={flag: None if value is None else value.replace(NAME, name) for flag, value in self.flags.items()},
            env={variable: value.replace(NAME, name) for variable, value in self.env.items()},
        )


@dataclass(frozen=True, kw_only=True)
class ClusterPlan:
    """`ports`: name -> number, on the head. `files`: name below the cluster's folder -> name of the credential."""

    spec: ClusterSpec
    head: RolePlan
    worker: RolePlan
    agent: RolePlan
    ports: Mapping[str, int]
    secret_env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a plan will be carried out.

    `host`: how workers and drivers reach the head. `bind`: where the head listens, if the engine can be told.
    `shared`: many clusters on one host, so that every port must be told. `folder`: the cluster's own, absolute.
    `prefix`: path below the origin at which the dashboard is shown.
    """

    host: str
    bind: str
    folder: str
    ports: Mapping[str, int]
    prefix: str
    shared: bool = True


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """Where a dashboard really is: `root` + `prefix` + path. The prefix is one that the engine was told, and names in its pages."""

    root: str
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
