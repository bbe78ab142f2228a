"""A clock that tests can set forward."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Runs with real time, from wherever it was set; `freeze` stops it. Call it for the present moment."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)
        self._frozen: datetime | None = None

    def __call__(self) -> datetime:
        return self._frozen or datetime.now(UTC) + self._ahead

    def freeze(self, at: datetime | None = None) -> datetime:
        """Stops at `at`, or now; returns it. `advance` still moves it."""
        self._frozen = at or self()
        return self._frozen

    def advance(self, seconds: float) -> datetime:
        step = timedelta(seconds=seconds)
        if self._frozen is not None:
            self._frozen += step
        else:
            self._ahead += step
        return self()
