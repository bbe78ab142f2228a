"""The service's errors. Each has a stable code, an HTTP status and a sentence that says what to do.

ServiceError
├── BadRequest          400  a field's value can't be accepted
├── NotSignedIn         401
├── Forbidden           403  the caller may see it, but not do this
├── NotFound            404  no such thing, or not the caller's
├── Conflict            409  the thing's present state does not allow it
│   └── LimitRefused    409  a limit refuses it; carries a moorage.wire.Refusal
├── TooLarge            413
└── Unavailable         503  something this needs does not answer
"""

import dataclasses
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from moorage.wire import Refusal


class ServiceError(Exception):
    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"code": self.code, "message": self.message}
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


def install_handlers(app: FastAPI) -> None:
    """Every refusal leaves in the one error format, FastAPI's and Starlette's own included."""

    @app.exception_handler(ServiceError)
    async def service_error(_request: Request, error: ServiceError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or "body"
        given = first.get("input")
        shown = "" if given is None or isinstance(given, dict | list) else f" (given: {str(given)[:80]!r})"
        message = f"{field}: {first['msg'].lower()}{shown}. Correct this field and send the request again."
        return JSONResponse({"code": "bad_request", "message": message, "field": field}, status_code=422)

    @app.exception_handler(HTTPException)
    async def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not_found", 405: "method_not_allowed"}
        body = {"code": codes.get(error.status_code, "error"), "message": str(error.detail)}
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)
