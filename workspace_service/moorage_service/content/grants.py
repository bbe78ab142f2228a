"""How a browser enters the content origin, which knows no cookies.

The portal, which knows the session, gives a *ticket*: good once, within seconds, for one thing. The content origin takes it
and gives a *grant*, which stands in the path of all that the thing's pages ask for. A grant ends with the session behind it,
with an hour of not being used, and with the right to the thing, which is asked for at every request.
"""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from urllib.parse import quote

from sqlalchemy import delete, select
from starlette.requests import HTTPConnection

from moorage_service.context import Context
from moorage_service.errors import NotSignedIn
from moorage_service.identity import cookies
from moorage_service.identity.callers import Caller, person_of_session
from moorage_service.identity.rates import Action
from moorage_service.identity.tokens import hashed
from moorage_service.settings import PREFIX
from moorage_service.store.tables import TicketRow

TICKET, GRANT = "ticket", "grant"
Kind = Literal["dashboard", "output"]


class GrantEnded(NotSignedIn):
    """`page` is where the portal gives a new one; None when that is not known any more."""

    default_code = "grant_ended"

    def __init__(self, page: str | None) -> None:
        super().__init__("What let you in here has ended. Open it again from the portal.")
        self.page = page


@dataclass(frozen=True)
class Target:
    """One cluster's dashboard, or the outputs of one run."""

    kind: Kind
    id: str

    @property
    def path(self) -> str:
        """The thing at the portal, with a slash at the end."""
        return (
            f"{PREFIX}/dashboards/{self.id}/"
            if self.kind == "dashboard"
            else f"{PREFIX}/api/v1/runs/{self.id}/outputs/"
        )


@dataclass(frozen=True)
class Holder:
    caller: Caller
    target: Target


def is_elsewhere(context: Context, caller: Caller) -> bool:
    """Whether the caller is a browser, which may see what others wrote at the content origin only."""
    return caller.via == "session" and context.settings.addresses.content is not None


def entrance(context: Context, connection: HTTPConnection, caller: Caller, target: Target, below: str) -> str:
    """The address at the content origin that lets this session in, once, to `below` (encoded, with its query)."""
    context.rates.count(Action.TICKET, user_id=caller.user_id, address=caller.address)
    ticket, now = secrets.token_urlsafe(32), context.clock()
    session_hash = hashed(cookies.read(connection, context.settings, cookies.SESSION))
    with context.database.begin() as session:
        session.execute(delete(TicketRow).where(TicketRow.expires_at < now - timedelta(days=1)))
        session.add(
            TicketRow(
                hash=hashed(ticket), kind=TICKET, user_id=caller.user_id, target=f"{session_hash} {target.kind} {target.id}",
                expires_at=now + timedelta(seconds=context.settings.ticket_s),
            )
        )  # fmt: skip
    return f"{context.settings.addresses.content}{PREFIX}/content/enter/{quote(ticket)}/{below}"


def exchange(context: Context, ticket: str) -> str:
    """A grant for a ticket, which is used up. Raises GrantEnded for one that was used, is too old, or never was."""
    grant, now = secrets.token_urlsafe(32), context.clock()
    with context.database.begin() as session:
        used = session.execute(
            delete(TicketRow)
            .where(TicketRow.hash == hashed(ticket), TicketRow.kind == TICKET)
            .returning(TicketRow.user_id, TicketRow.target, TicketRow.expires_at)
        ).one_or_none()
        if used is not None and used.expires_at > now:
            session.add(
                TicketRow(
                    hash=hashed(grant), kind=GRANT, user_id=used.user_id, target=used.target,
                    expires_at=now + timedelta(seconds=context.settings.grant_s),
                )
            )  # fmt: skip
            return grant
    raise GrantEnded(None if used is None else _target(used.target)[1].path)


def holder(context: Context, grant: str) -> Holder:
    """Who holds the grant, and for what. Raises GrantEnded."""
    now, lasts = context.clock(), timedelta(seconds=context.settings.grant_s)
    with context.database.read() as session:
        row = session.scalar(select(TicketRow).where(TicketRow.hash == hashed(grant), TicketRow.kind == GRANT))
    if row is None:
        raise GrantEnded(None)
    session_hash, target = _target(row.target)
    caller = person_of_session(context, session_hash) if row.expires_at > now else None
    if caller is None or caller.user_id != row.user_id:
        raise GrantEnded(target.path)
    if row.expires_at - now < lasts / 2:
        with context.database.begin() as session:
            kept = session.get(TicketRow, row.hash)
            if kept is not None:
                kept.expires_at = now + lasts
    return Holder(caller, target)


def _target(text: str) -> tuple[str, Target]:
    session_hash, kind, thing = text.split(" ")
    return session_hash, Target("dashboard" if kind == "dashboard" else "output", thing)
