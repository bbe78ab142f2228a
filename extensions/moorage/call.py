"""One request to the service as data, and what its answer means. Pure: nothing is sent here."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from moorage import errors
from moorage.wire import Refusal, codec

T = TypeVar("T")

API = "/api/v1"
JSON = "application/json"
RETRY_DELAYS = (0.2, 0.6, 1.5)  # seconds before the second, third and fourth attempt
_RETRIED_STATUSES = frozenset({502, 503, 504})
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, whichever library brought it."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Raises ServiceUnreachable when the body is no JSON: then it was not the service that answered."""
        try:
            return json.loads(self.content or b"null")
        except ValueError:
            raise errors.ServiceUnreachable(
                f"What answered (HTTP {self.status}) is not the Moorage service. "
                "Check the address (--url or MOORAGE_API_URL)."
            ) from None


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """A request below the service's address, and how its answer is read.

    `key` makes a create repeatable: the service answers a second request with the same key like the first.
    """

    method: str
    path: str
    read: Callable[[Reply], T]
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str | None = None
    key: str | None = None

    @property
    def url(self) -> str:
        return API + self.path

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.content_type is None else {"Content-Type": self.content_type}
        return found if self.key is None else {**found, "Idempotency-Key": self.key}

    @property
    def repeatable(self) -> bool:
        """Sending it twice has the effect of sending it once."""
        return self.method in _REPEATABLE or self.key is not None

    def worth_repeating(self, status: int) -> bool:
        return self.repeatable and status in _RETRIED_STATUSES

    def result(self, reply: Reply) -> T:
        """The answer's meaning; raises the error of `moorage.errors` that it stands for."""
        if reply.status >= 300:
            raise error_of(reply)
        try:
            return self.read(reply)
        except codec.WireError as error:
            raise errors.ServiceUnreachable(
                f"The service's answer to {self.method} {self.path} could not be read: {error}. "
                "The service may be of another release than this client; rebuild the project to renew the client."
            ) from error


def reading(kind: type[T]) -> Callable[[Reply], T]:
    """Reads a JSON answer as a wire type."""
    return lambda reply: codec.parse(kind, reply.json())


def read_nothing(_reply: Reply) -> None:
    """For answers whose status says it all."""


def read_text(reply: Reply) -> str:
    return reply.content.decode("utf-8", "replace")


def read_bytes(reply: Reply) -> bytes:
    return reply.content


def json_body(value: object) -> bytes:
    return json.dumps(codec.dump(value)).encode()


def new_key() -> str:
    return uuid.uuid4().hex


_BY_STATUS: dict[int, type[errors.ServiceError]] = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.BadRequest,
    422: errors.BadRequest,
}


def error_of(reply: Reply) -> errors.MoorageError:
    """The error that an answer of 300 and above stands for."""
    try:
        body = json.loads(reply.content)
    except ValueError:
        body = None
    if not isinstance(body, dict) or "message" not in body:
        return _foreign(reply)
    if isinstance(body.get("refusal"), dict):
        refusal = codec.parse(Refusal, body["refusal"])
        return errors.LimitRefused(refusal, status=reply.status, message=str(body["message"]))
    kind = _BY_STATUS.get(reply.status, errors.ServiceFailed if reply.status >= 500 else errors.ServiceError)
    return kind(str(body["message"]), status=reply.status, code=_text(body.get("code")), field=_text(body.get("field")))


def _foreign(reply: Reply) -> errors.MoorageError:
    if reply.status >= 500:
        return errors.ServiceFailed(
            f"The service failed (HTTP {reply.status}). Try again in a moment; if it stays, tell your admin.",
            status=reply.status,
        )
    return errors.ServiceUnreachable(
        f"What answered (HTTP {reply.status}) is not the Moorage service. Check the address (--url or MOORAGE_API_URL)."
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def quoted(part: str) -> str:
    return quote(part, safe="")


def create(path: str, body: object, read: type[T], key: str | None = None) -> Call[T]:
    """A POST of JSON that may be repeated, since it carries a key."""
    return Call(
        method="POST", path=path, content=json_body(body), content_type=JSON, key=key or new_key(), read=reading(read)
    )


def write(path: str, body: object) -> Call[None]:
    """A PUT of JSON whose answer says no more than its status."""
    return put(path, json_body(body), JSON)


def put(path: str, content: bytes, content_type: str) -> Call[None]:
    return Call(method="PUT", path=path, content=content, content_type=content_type, read=read_nothing)


def query(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def ended_too(ended: bool) -> dict[str, str]:
    return {"ended": "true"} if ended else {}
