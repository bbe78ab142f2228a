"""Looks at what is held, over and over while a test goes on, as an outsider would: from the reservations alone."""

import threading
from types import TracebackType

from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.store.tables import ReservationRow


class Sampler:
    """A context manager. `most`: the highest sum of `resource` that any look saw; `looks`: how many there were."""

    def __init__(self, context: Context, resource: str, *, every_s: float = 0.02) -> None:
        self.most = 0
        self.looks = 0
        self.failures: list[str] = []
        self._context = context
        self._resource = resource
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(timeout=30)

    def held(self) -> int:
        with self._context.database.read() as session:
            live = session.scalars(select(ReservationRow.amounts).where(ReservationRow.released_at.is_(None))).all()
        return sum(amounts.get(self._resource, 0) for amounts in live)

    def _loop(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                self.most = max(self.most, self.held())
                self.looks += 1
            except Exception as error:  # noqa: BLE001 - told to the test below, which fails of it
                self.failures.append(repr(error))
