"""How an installation is, for its admins."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Part:
    """A program or a store that Moorage consists of."""

    name: str
    ok: bool
    says: str  # in words: how it answers, or why it does not
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop of the service. `age_s`: since its last whole pass; `every_s`: how often it goes round when all is quiet."""

    name: str
    age_s: float
    every_s: float
    late: bool


@dataclass(frozen=True, kw_only=True)
class Disk:
    """A file system, by the first folder of ours on it. Bytes."""

    path: str
    free: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Health:
    """`warnings`: what an admin should see to, each a sentence with its remedy; empty when all is well."""

    started_at: str  # of the service's process
    parts: list[Part] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
