"""The service's errors. Each has a stable code, an HTTP status and a sentence that says what to do.

ServiceError
├── BadRequest          400  a field's value can't be accepted
├── NotSignedIn         401
├── Forbidden           403  the caller may see it, but not do this
├── NotFound            404  no such thing, or not the caller's
├── Conflict            409  the thing's present state does not allow it
│   ├── LimitRefused    409  a limit refuses it; carries a moorage.wire.Refusal
│   └── NotOnThisPlatform  409  this release can't do it on this platform
├── TooLarge            413
├── TooManyRequests     429  asked for too often; says when it may be again
└── Unavailable         503  something this needs does not answer
"""

import dataclasses
import errno
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketState

from moorage.wire import Refusal
from moorage_service.metrics import ERRORS
from moorage_service.store.database import FAILURES, OutcomeUnknownError
from moorage_service.store.records import UnreadableError
from moorage_spawners.launch.errors import StaleViewError, Unanswered

log = logging.getLogger(__name__)

LONGEST = 3000  # characters of a sentence

ROUTES_ARE_AT = "The routes are listed at /services/moorage/api/v1/docs."


class ServiceError(Exception):
    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer, beside the usual ones."""
        return {}

    def body(self) -> dict[str, Any]:
        # What was sent may be quoted in it, at any length.
        message = self.message if len(self.message) <= LONGEST else f"{self.message[: LONGEST - 1]}…"
        body: dict[str, Any] = {"code": self.code, "message": message}
        if self.field is not None:
            body["field"] = self.field
        return body


class BadRequest(ServiceError):
    status = 400
    default_code = "bad_request"


class NotSignedIn(ServiceError):
    status = 401
    default_code = "not_signed_in"


class Forbidden(ServiceError):
    status = 403
    default_code = "forbidden"


class NotFound(ServiceError):
    status = 404
    default_code = "not_found"


class Conflict(ServiceError):
    status = 409
    default_code = "conflict"


class TooLarge(ServiceError):
    status = 413
    default_code = "too_large"


class TooManyRequests(ServiceError):
    status = 429
    default_code = "too_many_requests"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after_s)}


class Unavailable(ServiceError):
    status = 503
    default_code = "unavailable"


class LimitRefused(Conflict):
    default_code = "limit_refused"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal

    def body(self) -> dict[str, Any]:
        return {**super().body(), "refusal": dataclasses.asdict(self.refusal)}


class NotOnThisPlatform(Conflict):
    default_code = "not_on_this_platform"


@dataclass(frozen=True, kw_only=True)
class Error:
    """The one error format, as the schema of the API describes it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    code: str  # stable
    message: str  # says what to do
    field: str | None = None  # which field can't be accepted
    refusal: Refusal | None = None  # by which limit


def documented() -> dict[int | str, dict[str, Any]]:
    """For the schema of the API: every refusal that a route may answer with."""
    words = {
        400: "A value can't be accepted, or what was sent can't be read",
        401: "No credential, or one that is good for nothing",
        403: "The caller may not do this",
        404: "There is no such thing, or it is not the caller's",
        409: "The present state, or a limit, does not allow it",
        413: "Too much was sent",
        422: "What was sent has another shape",
        429: "It was asked for too often; `Retry-After` says when it may be again",
        503: "Something that this needs does not answer",
    }
    statuses = sorted({422, *(kind.status for kind in _kinds(ServiceError))} - {500})
    return {status: {"model": Error, "description": words.get(status, "Refused")} for status in statuses}


def _kinds(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


class Answer(JSONResponse):
    """In ASCII: what was sent may be quoted in it, be it half a surrogate pair, which has no other encoding."""

    def render(self, content: Any) -> bytes:
        ERRORS.labels(str(self.status_code), str(content.get("code"))).inc()
        return json.dumps(content, separators=(",", ":")).encode()


def install_handlers(app: FastAPI) -> None:
    """Every refusal leaves in the one error format, FastAPI's and Starlette's own included."""

    @app.exception_handler(ServiceError)
    async def service_error(connection: HTTPConnection, error: ServiceError) -> Response:
        return await _answer(connection, error.body(), error.status, error.headers)

    @app.exception_handler(StaleViewError)
    @app.exception_handler(Unanswered)
    async def cluster_away(connection: HTTPConnection, error: Exception) -> Response:
        unavailable = Unavailable(f"The cluster does not answer just now. {error} Try again in a minute.")
        return await _answer(connection, unavailable.body(), unavailable.status, unavailable.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        field, message = in_words(error)
        return Answer({"code": "bad_request", "message": message, "field": field}, status_code=422)

    @app.exception_handler(WebSocketRequestValidationError)
    async def invalid_socket(socket: WebSocket, error: WebSocketRequestValidationError) -> None:
        field, message = in_words(error)
        await _answer(socket, {"code": "bad_request", "message": message, "field": field}, 422)

    app.exception_handler(HTTPException)(no_route)
    _install_failures(app)


async def no_route(connection: HTTPConnection, error: HTTPException) -> Response:
    """What the framework refuses before any route of ours has it."""
    where = connection.url.path
    code, message = {
        404: ("not_found", f"There is nothing at {where}. {ROUTES_ARE_AT}"),
        405: ("method_not_allowed", f"{where} does not take {connection.scope.get('method')}. {ROUTES_ARE_AT}"),
    }.get(error.status_code, ("bad_request" if error.status_code < 500 else "error", str(error.detail)))
    return await _answer(connection, {"code": code, "message": message}, error.status_code, error.headers)


def _install_failures(app: FastAPI) -> None:
    """What no route meant to refuse: the store, the disk, values and records that nobody can keep or read, and our own faults."""

    async def store_failed(connection: HTTPConnection, error: Exception) -> Response:
        log.error("the store failed at %s", connection.url.path, exc_info=error)
        code, message = _store_in_words(error)
        return await _answer(connection, {"code": code, "message": message}, 503, {"Retry-After": "2"})

    for kind in FAILURES:
        app.add_exception_handler(kind, store_failed)

    @app.exception_handler(OSError)
    async def disk_failed(connection: HTTPConnection, error: OSError) -> Response:
        if error.errno not in _NO_ROOM:
            raise error
        log.error("the disk did not take what came to %s", connection.url.path, exc_info=error)
        return await _answer(connection, {"code": "disk_full", "message": _FULL}, 503)

    @app.exception_handler(DataError)  # PostgreSQL's
    @app.exception_handler(OverflowError)  # SQLite's
    @app.exception_handler(UnicodeEncodeError)  # of either, for half a surrogate pair
    async def out_of_range(connection: HTTPConnection, error: Exception) -> Response:
        log.info("a value that can't be stored came to %s: %s", connection.url.path, type(error).__name__)
        message = (
            "A value in this request can't be kept: it is too long, too large, or holds a NUL character or half a "
            "surrogate pair. Correct it."
        )
        return await _answer(connection, {"code": "bad_request", "message": message}, 400)

    @app.exception_handler(UnreadableError)
    async def unreadable(connection: HTTPConnection, error: UnreadableError) -> Response:
        log.error("at %s: %s", connection.url.path, error)
        message = (
            "This record can't be read by this version of Moorage, so it is left alone; all others are as they were. "
            "An admin finds out why with `moorage admin check`."
        )
        return await _answer(connection, {"code": "record_unreadable", "message": message}, 409)

    @app.exception_handler(Exception)
    async def bug(_request: Request, _error: Exception) -> JSONResponse:
        # Starlette raises it again after this answer, so the server's log has the traceback.
        message = "Something went wrong inside Moorage, and nothing more was done. An admin finds the cause in the service's log."
        return Answer({"code": "internal_error", "message": message}, status_code=500)


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_FULL = "Moorage's disk takes nothing more, so nothing was kept of this. Try again once an admin has made room."


def _store_in_words(error: Exception) -> tuple[str, str]:
    """A stable code and what to do."""
    if isinstance(error, OutcomeUnknownError):
        again = "Send it again with the same Idempotency-Key, or look whether it was done before you send it anew."
        return "outcome_unknown", f"The store's answer was lost, so it is not known whether this was done. {again}"
    said = str(getattr(error, "orig", error)).lower()
    if "disk is full" in said or "no space left" in said or "could not extend file" in said:
        return "disk_full", _FULL
    return "store_unavailable", "The store does not answer or is busy, so nothing was changed. Try again in a moment."


def in_words(error: RequestValidationError | WebSocketRequestValidationError) -> tuple[str, str]:
    """The first thing wrong with a request: the field, and a sentence."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")) or "body"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return field, f"{field}: there is no such field. Leave it out, or correct its name."
    if first["type"] == "json_invalid":
        return "body", "body: it is not valid JSON. Correct it and send the request again."
    if first["type"] == "missing":
        return field, f"{field}: this field is missing. Add it and send the request again."
    given = first.get("input")
    shown = "" if given is None or isinstance(given, dict | list) else f" (given: {str(given)[:80]!r})"
    return (
        field,
        f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}{shown}. Correct this field and send the request again.",
    )


async def _answer(
    connection: HTTPConnection, body: dict[str, Any], status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """To a websocket that is not open yet the refusal is sent here; the response returned then goes nowhere."""
    response = Answer(body, status_code=status, headers=dict(headers or {}))
    if isinstance(connection, WebSocket) and connection.application_state is WebSocketState.CONNECTING:
        await connection.send_denial_response(response)
    return response
