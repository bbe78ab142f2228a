"""Who calls: from a portal session, a hub token, a workload's own token, or the hub's spawner.

Every route names one of the `Require...` dependencies (a test enumerates the routes):

- RequireUser: a person, through their session, a hub token that may access this service, or their notebook.
- RequireMember: the same, or one of their runs (which may read what it needs, such as its own cluster).
- RequireAdmin: a person who is an admin at the hub; never through a notebook, whose packages anybody may have written.
- RequireWorkload: any live workload, by its own token.
- RequireSpawner: the hub itself.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

from cryptography.fernet import InvalidToken
from fastapi import Depends
from starlette.requests import HTTPConnection

from moorage_service.context import Context, Ctx
from moorage_service.errors import Forbidden, NotSignedIn, Unavailable
from moorage_service.identity import cookies, sessions, tokens
from moorage_service.identity.users import sign_in
from moorage_service.store.tables import UserRow
from moorage_service.watch import logs

# As the hub expands them: a token for another service reads "access:services!service=other".
ACCESS = frozenset({"access:services", "access:services!service=moorage"})
OF_A_SERVER = "access:servers!server="


@dataclass(frozen=True, kw_only=True)
class Caller:
    """`user_id` and `name` are None and "" for the spawner only."""

    user_id: str
    name: str
    admin: bool
    groups: tuple[str, ...] = ()
    via: Literal["session", "hub", "workload", "spawner"]
    workload_id: str | None = None
    workload_kind: str | None = None
    project_id: str | None = None  # of the calling workload
    token_hash: str | None = None  # of the workload's token that was sent
    hub_token: str | None = None  # to act at the hub as the user; only via session and hub
    why: str | None = None  # `?why=`: for the audit
    came_from: Callable[[], str | None] = lambda: None

    @property
    def address(self) -> str | None:
        """None: from this machine. A look at the machine's sockets, or at names, so only where it is counted."""
        return self.came_from()


def identify(context: Context, request: HTTPConnection) -> Caller:
    """Raises NotSignedIn without a good credential."""
    caller = replace(
        _identify(context, request), came_from=partial(context.came_from, request), why=request.query_params.get("why")
    )
    logs.note(user=caller.user_id or caller.via, workload=caller.workload_id)
    return caller


def _identify(context: Context, request: HTTPConnection) -> Caller:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if token and scheme.lower() in ("bearer", "token"):
        return _by_token(context, token.strip())
    cookie = cookies.read(request, context.settings, cookies.SESSION)
    if cookie:
        caller = person_of_session(context, tokens.hashed(cookie))
        if caller is not None:
            sessions.refuse_cross_site(request, context.settings)
            return caller
    raise NotSignedIn("Sign in first: open the portal in a browser, or send a token as `Authorization: Bearer TOKEN`.")


def _by_token(context: Context, token: str) -> Caller:
    if token.startswith(tokens.PREFIX):
        with context.database.read() as session:
            workload = tokens.workload_of_token(session, token)
            owner = None if workload is None else session.get(UserRow, workload.owner_id)
        # What executes may finish: a run reports, and a cluster's agent. A notebook's token is its user's own hand.
        disabled = owner is not None and not owner.active and workload is not None and workload.kind == "notebook"
        if workload is None or owner is None or disabled:
            raise NotSignedIn(
                "This token belongs to a workload that has ended. Start a new notebook, or use a token of your own."
            )
        # Never an admin: whoever writes a package can write into a kernel.
        return Caller(
            user_id=owner.id, name=owner.hub_name, admin=False, groups=tuple(owner.groups), via="workload",
            workload_id=workload.id, workload_kind=workload.kind, project_id=workload.project_id, token_hash=tokens.hashed(token),
        )  # fmt: skip
    if any(hmac.compare_digest(token.encode(), each.encode()) for each in sessions.spawner_tokens(context.settings)):
        return Caller(user_id="", name="", admin=False, via="spawner")
    return _by_hub_token(context, token)


def _by_hub_token(context: Context, token: str) -> Caller:
    known = context.hub.user_for_token(token)
    if known is None:
        raise NotSignedIn("The hub does not know this token. Make a new one on the hub's token page.")
    if not known.scopes & ACCESS:
        raise Forbidden("This token may not use Moorage. Make one with the scope access:services!service=moorage.")
    user = sign_in(
        context.database, context.settings, name=known.name, admin=known.admin, groups=known.groups, clock=context.clock
    )
    person = _person(user, via="hub", hub_token=token)
    # A server's own token lies in its kernels' environment: whoever writes a package can read it.
    of_a_server = any(scope.startswith(OF_A_SERVER) for scope in known.scopes)
    return replace(person, admin=False) if of_a_server else person


def person_of_session(context: Context, session_hash: str) -> Caller | None:
    """Who is signed in with the session of that hash; None when it has ended, here or at the hub."""
    with context.database.read() as session:
        found = sessions.find(session, session_hash, now=context.clock())
        if found is None:
            return None
        user = session.get(UserRow, found.user_id)
    if user is None or not user.active:
        return None
    try:
        hub_token = context.vault.open_sealed(found.hub_token)
    except InvalidToken:
        return None  # the vault has a new key: sign in again
    if not _still_signed_in(context, hub_token, user):
        return None
    return _person(user, via="session", hub_token=hub_token)


def _still_signed_in(context: Context, hub_token: str, user: UserRow) -> bool:
    """Whether the hub still stands by the session's token, and by what the user may do; asked at most once a minute or so.

    A hub that does not answer changes nothing: the portal goes on without it.
    """
    try:
        known = context.hub.user_for_token(hub_token, cache_s=context.settings.session_check_s)
    except Unavailable:
        return True
    if known is None or known.name != user.hub_name:
        return False
    return known.admin == user.admin or not user.admin


def _person(user: UserRow, *, via: Literal["session", "hub"], hub_token: str) -> Caller:
    return Caller(
        user_id=user.id, name=user.hub_name, admin=user.admin, groups=tuple(user.groups), via=via, hub_token=hub_token
    )


def _caller(context: Ctx, connection: HTTPConnection) -> Caller:
    return identify(context, connection)


AnyCaller = Annotated[Caller, Depends(_caller)]


def require_user(caller: AnyCaller) -> Caller:
    if caller.via == "spawner" or caller.workload_kind in ("cluster", "run"):
        raise Forbidden("This is for people. A cluster's or run's own token does not do; use yours.")
    return caller


def require_member(caller: AnyCaller) -> Caller:
    if caller.via == "spawner" or caller.workload_kind == "cluster":
        raise Forbidden("This is for people and their runs. A cluster's own token does not do; use yours.")
    return caller


def require_admin(caller: AnyCaller) -> Caller:
    if not caller.admin:
        raise Forbidden(
            "Only an admin may do this, signed in at the portal or with a hub token of their own (not a notebook's)."
        )
    return caller


def require_workload(caller: AnyCaller) -> Caller:
    if caller.via != "workload":
        raise Forbidden("This is for workloads, with their own token.")
    return caller


def require_spawner(caller: AnyCaller) -> Caller:
    if caller.via != "spawner":
        raise Forbidden("This is for the hub.")
    return caller


RequireUser = Annotated[Caller, Depends(require_user)]
RequireMember = Annotated[Caller, Depends(require_member)]
RequireAdmin = Annotated[Caller, Depends(require_admin)]
RequireWorkload = Annotated[Caller, Depends(require_workload)]
RequireSpawner = Annotated[Caller, Depends(require_spawner)]
