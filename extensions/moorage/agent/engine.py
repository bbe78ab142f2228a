"""What the agent asks of an engine."""

from dataclasses import dataclass, field
from typing import Protocol

from moorage.wire import WorkerReport


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What was seen of the engine at one look. `wanted` is how many workers the work there is could use, unbounded.

    `idle`: there is neither work, running or waiting, nor a client; None: that can't be told.
    """

    answers: bool
    workers: list[WorkerReport] = field(default_factory=list)
    wanted: int = 0
    clients: int = 0
    idle: bool | None = None
    versions: dict[str, str] = field(default_factory=dict)
    message: str | None = None


class Engine(Protocol):
    async def look(self) -> Sight:
        """Never raises for an engine that is away or not up yet: `answers` is False then."""
        ...

    async def retire(self, names: list[str]) -> None:
        """Sends idle workers away. One that is busy by now, or gone already, is left as it is."""
        ...
