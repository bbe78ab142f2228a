"""What happens around the commit of a transaction, if there is one: a session that is rolled back, or only tried out, sees none of it."""

from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.orm import Session


def around_commit(session: Session, *, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Calls `before` when all is decided and nothing is durable yet, and `after` once it is."""
    event.listen(session, "before_commit", lambda _: before(), once=True)
    event.listen(session, "after_commit", lambda _: after(), once=True)
