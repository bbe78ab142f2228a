"""The service as hub and spawner see it: admissions, observations, and a portal page behind the hub's sign-in."""

import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moorage.wire import NotebookAdmission

PREFIX = "/services/moorage"


@dataclass
class FakeService:
    """Admits with `admission` changed by the request, or answers `refusal`."""

    token: str
    hub_api: str
    hub_token: str
    admission: NotebookAdmission | None = None
    refusal: tuple[int, dict[str, Any]] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    observations: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    port: int = 0
    files: bytes = b""  # of every project, as a tar
    down: bool = False  # closes every connection without an answer

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == f"{PREFIX}/api/v1/notebooks":
            self.requests.append(body)
            if self.refusal is not None:
                return self.refusal
            assert self.admission is not None
            number = len(self.requests)
            return 201, {**asdict(self.admission), "workload_id": f"{self.admission.workload_id}-{number}"}
        if path.endswith("/observations"):
            self.observations.append(body)
            return 204, None
        return 404, {"code": "not_found", "message": path}

    def get(self, path: str, query: dict[str, str], authorization: str | None) -> tuple[int, Any]:
        if path.endswith("/oauth_callback"):
            return 200, self.exchange(query["code"])
        if self.admission is None or authorization != f"Bearer {self.admission.token}":
            return 401, {"code": "not_signed_in", "message": "Sign in first."}
        return 200, self.usage

    def anything(self, path: str) -> Any:
        return self.files if path.startswith(f"{PREFIX}/api/v1/projects/") else {"status": "ok"}

    def exchange(self, code: str) -> dict[str, Any]:
        """The hub's token for a code, and whose it is."""
        form = {
            "client_id": "service-moorage", "client_secret": self.hub_token, "grant_type": "authorization_code",
            "code": code, "redirect_uri": f"{PREFIX}/oauth_callback",
        }  # fmt: skip
        answer = _json(f"{self.hub_api}/oauth2/token", data=urllib.parse.urlencode(form).encode())
        token = answer["access_token"]
        user: dict[str, Any] = _json(f"{self.hub_api}/user", headers={"Authorization": f"token {token}"})
        self.tokens.append({"token": token, "user": user})
        return user


def _json(url: str, **given: Any) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, **given), timeout=10) as answer:
        return json.loads(answer.read())


def _encoded(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return b"" if body is None else json.dumps(body).encode()


def _handler(service: FakeService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if service.down:
                return self.hang_up()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
            if self.headers["Authorization"] != f"Bearer {service.token}":
                return self.answer(401, {"code": "not_signed_in", "message": "bad token"})
            return self.answer(*service.post(self.path, body))

        def do_GET(self) -> None:
            if service.down:
                return self.hang_up()
            url = urllib.parse.urlparse(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            if url.path in (f"{PREFIX}/api/v1/me/usage", f"{PREFIX}/oauth_callback"):
                return self.answer(*service.get(url.path, query, self.headers["Authorization"]))
            if url.path == f"{PREFIX}/":
                ask = {
                    "client_id": "service-moorage",
                    "redirect_uri": f"{PREFIX}/oauth_callback",
                    "response_type": "code",
                }
                return self.answer(302, None, f"/hub/api/oauth2/authorize?{urllib.parse.urlencode(ask)}")
            return self.answer(200, service.anything(url.path))

        def answer(self, status: int, body: Any, location: str | None = None) -> None:
            content = _encoded(body)
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def hang_up(self) -> None:
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def serving(service: FakeService, port: int = 0, host: str = "127.0.0.1") -> Iterator[FakeService]:
    server = ThreadingHTTPServer((host, port), _handler(service))
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
