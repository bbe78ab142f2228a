"""The portal's own cookies, host-only.

Where the portal shares its domain with hosts of users, one of these could set a cookie for the whole domain, and so sign a visitor in as
somebody else: over https a `__Host-` name is taken from the portal's own host alone, and no other name is read then.
"""

from fastapi.responses import Response
from starlette.requests import HTTPConnection

from moorage_service.settings import PREFIX, Settings

SESSION = "moorage-session"
STATE = "moorage-oauth-state"


def name_of(settings: Settings, cookie: str) -> str:
    return f"__Host-{cookie}" if _locked(settings) else cookie


def read(connection: HTTPConnection, settings: Settings, cookie: str) -> str:
    """Empty when there is none."""
    return connection.cookies.get(name_of(settings, cookie), "")


def give(response: Response, settings: Settings, cookie: str, value: str, *, max_age_s: int) -> None:
    response.set_cookie(
        name_of(settings, cookie), value, max_age=max_age_s, path=_path(settings), httponly=True, samesite="lax",
        secure=settings.addresses.secure,
    )  # fmt: skip


def drop(response: Response, settings: Settings, cookie: str) -> None:
    response.delete_cookie(
        name_of(settings, cookie), path=_path(settings), httponly=True, samesite="lax", secure=settings.addresses.secure
    )


def _locked(settings: Settings) -> bool:
    """On one origin for all, the whole host would get a cookie of that name: users' servers too."""
    return settings.addresses.secure and settings.addresses.per_user


def _path(settings: Settings) -> str:
    return "/" if _locked(settings) else PREFIX
