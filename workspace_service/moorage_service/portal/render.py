"""Pages out of templates: what every page has around it, its headers, and the one message it shows after a form."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from moorage_service import __version__
from moorage_service.context import current_context
from moorage_service.identity.callers import Caller
from moorage_service.portal import values, words
from moorage_service.settings import PREFIX
from moorage_service.watch.health import troubles as troubles_of

FLASH = "moorage-flash"
STATIC = Path(__file__).parent / "static"
_LONGEST_FLASH = 1500  # a cookie holds 4 KiB
_TITLES = {
    401: "Signed out",
    403: "Not allowed",
    404: "Not here",
    409: "Not now",
    413: "Too large",
    503: "Not just now",
}

POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
        "connect-src 'self'", "frame-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("moorage_service.portal"), autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(words.FILTERS, parameter_text=values.to_text)
    made.globals.update(prefix=PREFIX, static=static_url, version=__version__)
    return made


@cache
def static_url(name: str) -> str:
    """The address of a file of ours; it changes with its content, so that a browser may keep it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/static/{name}?v={digest}"


def page(request: Request, caller: Caller, template: str, *, status: int = 200, **data: Any) -> Response:
    """The page, with the message that the form before it left. `live` in `data`: seconds between two refreshes."""
    flash = _taken(request)
    data.setdefault("live", None)
    context = current_context(request)
    troubles = troubles_of(context) if caller.admin else []
    text = (
        environment()
        .get_template(template)
        .render(caller=caller, path=request.url.path, flash=flash, troubles=troubles, platform=context.platform, **data)
    )
    response = HTMLResponse(text, status_code=status, headers=_headers(request))
    if flash is not None and not request.headers.get("x-live"):
        response.delete_cookie(FLASH, path=PREFIX)
    return response


def _headers(request: Request) -> dict[str, str]:
    """Frames of ours show what notebooks wrote, at the content origin where there is one."""
    content = current_context(request).settings.addresses.content
    if content is None:
        return HEADERS
    policy = POLICY.replace("frame-src 'self'", f"frame-src 'self' {content}")
    return {**HEADERS, "Content-Security-Policy": policy}


def error_page(request: Request, status: int, message: str) -> Response:
    text = environment().get_template("error.html").render(
        caller=None, troubles=[], path=request.url.path, flash=None, live=None, status=status, message=message,
        title=_TITLES.get(status, "That did not work"),
    )  # fmt: skip
    return HTMLResponse(text, status_code=status, headers=HEADERS)


def go(path: str, *, good: str | None = None, bad: str | None = None) -> RedirectResponse:
    """Sends the browser to a path of ours after a form; the page there shows the message once."""
    response = RedirectResponse(path, status_code=303, headers={"Cache-Control": "no-store"})
    message = bad or good
    if message is not None:
        tone = "bad" if bad is not None else "good"
        value = quote(json.dumps([tone, message[:_LONGEST_FLASH]]), safe="")
        response.set_cookie(FLASH, value, max_age=60, path=PREFIX, httponly=True, samesite="lax")
    return response


def _taken(request: Request) -> tuple[str, str] | None:
    if request.headers.get("x-live"):
        return None
    try:
        tone, message = json.loads(unquote(request.cookies.get(FLASH, "")))
    except (ValueError, TypeError):
        return None
    return ("bad" if tone == "bad" else "good", str(message))
