"""Who may see a page, and what a page answers when something is refused: a sign-in, a sentence, never a traceback.

Pages are for a browser's own session alone: a token in a header opens the API, not a page.
"""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from moorage_service.context import current_context
from moorage_service.errors import Forbidden, NotFound, NotSignedIn, ServiceError, no_route
from moorage_service.identity import oauth
from moorage_service.identity.callers import Caller, RequireUser
from moorage_service.portal import render
from moorage_service.settings import PREFIX, is_ours


def page_user(caller: RequireUser) -> Caller:
    if caller.via != "session":
        raise Forbidden("Pages are for a browser that is signed in. With a token, use the API below /api/v1.")
    return caller


PageUser = Annotated[Caller, Depends(page_user)]


def page_admin(caller: PageUser) -> Caller:
    if not caller.admin:
        # To others these pages do not exist.
        raise NotFound("There is no such page.")
    return caller


PageAdmin = Annotated[Caller, Depends(page_admin)]


class PageRoute(APIRoute):
    """A route whose refusals are pages: not signed in goes to the hub, a refused form goes back with the sentence."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except NotSignedIn as error:
                return _sign_in(request, error)
            except ServiceError as error:
                return _refused(request, error)
            except RequestValidationError as error:
                first = error.errors()[0]
                field = str(first["loc"][-1])
                return render.error_page(request, 422, f"{field}: {first['msg'].lower()}. Go back and correct it.")
            except HTTPException as error:
                return render.error_page(request, error.status_code, str(error.detail))

        return handler


async def no_page(connection: HTTPConnection, error: HTTPException) -> Response:
    """A person who mistyped an address gets a page with a way back, a program the one error format."""
    asks_for_page = "text/html" in connection.headers.get("accept", "")
    if isinstance(connection, Request) and asks_for_page and not connection.url.path.startswith(f"{PREFIX}/api/"):
        return render.error_page(connection, error.status_code, "There is no such page. Check its address.")
    return await no_route(connection, error)


def _sign_in(request: Request, error: NotSignedIn) -> Response:
    if request.method != "GET":
        return render.error_page(
            request, 401, "You were signed out, so nothing was done. Open the page again to sign in."
        )
    if request.headers.get("x-live"):
        # A page that refreshes itself must not begin a sign-in in the background.
        return render.error_page(request, 401, error.message)
    query = f"?{request.url.query}" if request.url.query else ""
    return oauth.to_sign_in(current_context(request), f"{request.url.path}{query}")


def _refused(request: Request, error: ServiceError) -> Response:
    came_from = urlsplit(request.headers.get("referer", ""))
    own = current_context(request).settings.addresses.is_own(f"{came_from.scheme}://{came_from.netloc}")
    if request.method == "POST" and own and is_ours(came_from.path):
        query = f"?{came_from.query}" if came_from.query else ""
        return render.go(f"{came_from.path}{query}", bad=error.message)
    answer = render.error_page(request, error.status, error.message)
    answer.headers.update(error.headers)
    return answer
