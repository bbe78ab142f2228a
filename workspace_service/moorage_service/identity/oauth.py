"""Signing in to the portal: OAuth with the hub, then a session of our own."""

import hmac
import secrets

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from moorage_service.context import Context, Ctx
from moorage_service.errors import BadRequest, Conflict, NotSignedIn
from moorage_service.identity import cookies, sessions
from moorage_service.identity.rates import Action
from moorage_service.identity.users import sign_in
from moorage_service.settings import PREFIX, is_ours

CLIENT_ID = "service-moorage"

router = APIRouter(tags=["sign-in"], include_in_schema=False)


def redirect_uri() -> str:
    # A path: the hub knows it the same way, and completes both with its own origin.
    return f"{PREFIX}/oauth_callback"


def to_sign_in(context: Context, after: str) -> RedirectResponse:
    """Sends the browser to the hub, which sends it back to `oauth_callback`, which sends it to `after` (a path of ours)."""
    state = secrets.token_urlsafe(24)
    address = context.settings.addresses.hub(
        "/api/oauth2/authorize", client_id=CLIENT_ID, redirect_uri=redirect_uri(), response_type="code", state=state
    )
    response = RedirectResponse(address, status_code=302)
    cookies.give(response, context.settings, cookies.STATE, f"{state}:{after}", max_age_s=600)
    return response


def _exchange(context: Context, code: str, address: str) -> str:
    """Who guesses codes is stopped; who has one comes in, however many come from the same address."""
    context.rates.check(Action.SIGN_IN, address=address)
    try:
        return context.hub.exchange_code(code, client_id=CLIENT_ID, redirect_uri=redirect_uri())
    except Conflict:
        context.rates.count(Action.SIGN_IN, address=address)
        raise


@router.get("/oauth_callback")
def callback(context: Ctx, request: Request, code: str = "", state: str = "", error: str = "") -> RedirectResponse:
    if error:
        raise NotSignedIn(f"The hub did not sign you in: {error[:200]}. Open the portal again.")
    expected, _, after = cookies.read(request, context.settings, cookies.STATE).partition(":")
    if not expected or not hmac.compare_digest(expected.encode(), state.encode()):
        raise BadRequest(
            "state: this sign-in was not begun in this browser, or took longer than ten minutes. Open the portal again.",
            field="state",
        )
    token = _exchange(context, code, context.came_from(request) or "this machine")
    known = context.hub.user_for_token(token)
    if known is None:
        raise NotSignedIn("The hub does not know the token it has just given. Open the portal again.")
    user = sign_in(
        context.database, context.settings, name=known.name, admin=known.admin, groups=known.groups, clock=context.clock
    )
    with context.database.begin() as session:
        cookie = sessions.create(
            session,
            user_id=user.id,
            sealed_token=context.vault.seal(token),
            now=context.clock(),
            lasts_s=context.settings.session_s,
        )
    # The cookie is the browser's word: only a path of ours is followed.
    response = RedirectResponse(after if is_ours(after) else f"{PREFIX}/", status_code=302)
    cookies.drop(response, context.settings, cookies.STATE)
    cookies.give(response, context.settings, cookies.SESSION, cookie, max_age_s=int(context.settings.session_s))
    return response


@router.post("/sign-out")
def sign_out(context: Ctx, request: Request) -> RedirectResponse:
    """Ends the session here and at the hub, with what was opened by it."""
    sessions.refuse_cross_site(request, context.settings)
    cookie = cookies.read(request, context.settings, cookies.SESSION)
    if cookie:
        with context.database.begin() as session:
            sessions.end(session, cookie)
    response = RedirectResponse("/hub/logout", status_code=303)
    cookies.drop(response, context.settings, cookies.SESSION)
    return response
