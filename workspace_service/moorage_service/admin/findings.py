"""What a check finds: one broken invariant each, in words."""

from dataclasses import dataclass

INVARIANTS = {
    "I1": "no orphan",
    "I2": "nothing accepted is lost",
    "I3": "nothing admitted over a limit",
    "I4": "held exactly while it lived",
    "I5": "nothing twice",
    "I6": "nothing stands still",
    "I7": "said why",
    "Q": "every record can be read",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`code` is stable, dotted; `subject` is what it is about: a workload's id, a path, a limit.

    `repairable`: `check --repair` can mend it without ending or changing anything that anybody still uses.
    """

    invariant: str
    code: str
    subject: str
    what: str
    remedy: str
    repairable: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """The same finding at another look, whatever its words say by then."""
        return self.code, self.subject
