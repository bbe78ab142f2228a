"""Signing a user out everywhere, for an admin: a lost laptop, a token that went astray."""

import logging

from moorage_service.context import Context
from moorage_service.errors import ServiceError
from moorage_service.identity import sessions, users
from moorage_service.identity.audit import audit
from moorage_service.identity.callers import Caller

log = logging.getLogger(__name__)


def everywhere(context: Context, caller: Caller, name: str, *, why: str | None = None) -> None:
    """Portal, dashboards and hub. Raises NotFound, and Unavailable when the hub does not answer: here they are out then, there not."""
    with context.database.begin() as session:
        user = users.user_named(session, name)
        ended = sessions.end_all(session, user.id)
        audit(
            session,
            caller,
            "user.sign-out",
            name,
            before={"sessions": ended},
            after={"sessions": 0},
            why=why,
            now=context.clock(),
        )
    context.hub.sign_out(name)


def at_the_hub(context: Context, name: str) -> None:
    """Of a user who is refused here already: a hub that does not answer changes nothing about that."""
    try:
        context.hub.sign_out(name)
    except (ServiceError, OSError) as error:
        log.warning("%s is disabled, but could not be signed out at the hub: %s", name, error)
