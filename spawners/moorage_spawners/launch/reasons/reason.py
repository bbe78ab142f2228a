"""What is said to the owner of a workload."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """`code` is stable and dotted; `waits`: it may pass by itself, so it is worth waiting."""

    code: str
    sentence: str
    remedy: str
    waits: bool = False

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}"


ADMIN = "Tell an admin."
WAIT = "It starts by itself as soon as that changes; wait, or stop something of yours."
AGAIN = "Start it again."
