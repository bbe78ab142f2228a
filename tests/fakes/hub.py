"""A hub, as the service sees one: users, their tokens and servers, and OAuth. In memory, or served over real HTTP.

`transport()` answers an httpx client without a network; `serve()` listens on a free port for a browser or another process.
It starts no servers: `servers` holds what was asked for, with the options.
"""

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode

import httpx

API = "/hub/api"
ACCESS = "access:services!service=moorage"


@dataclass
class HubAccount:
    name: str
    admin: bool = False
    groups: tuple[str, ...] = ()


@dataclass
class FakeHub:
    """`signed_in` is whom the OAuth page takes the browser for. `down` refuses connections; `failing` answers 500."""

    accounts: dict[str, HubAccount] = field(default_factory=dict)
    tokens: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)  # token -> user, scopes
    codes: dict[str, str] = field(default_factory=dict)
    servers: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # (user, server) -> options
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # (user, server) -> why its start failed
    calls: list[tuple[str, str]] = field(default_factory=list)
    service_token: str = field(default_factory=lambda: secrets.token_hex(16))
    signed_in: str | None = None
    VERSION: ClassVar = "6.1.1"
    down: bool = False
    failing: bool = False

    def add_user(self, name: str, *, admin: bool = False, groups: tuple[str, ...] = ()) -> str:
        """Makes the user and returns a token of theirs that may use the service."""
        self.accounts[name] = HubAccount(name, admin, groups)
        return self.add_token(name)

    def add_token(self, name: str, *, scopes: tuple[str, ...] = (ACCESS,)) -> str:
        token = secrets.token_hex(16)
        self.tokens[token] = (name, frozenset(scopes))
        return token

    def revoke(self, token: str) -> None:
        del self.tokens[token]

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer_httpx)

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Yields the origin, like "http://127.0.0.1:40123"; the API is below `/hub/api`."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(self))
        thread = threading.Thread(target=server.serve_forever, name="fake-hub", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join(timeout=10)

    def answer(self, method: str, path: str, query: str, authorization: str, body: bytes) -> "HubAnswer":
        self.calls.append((method, path))
        if self.failing:
            return HubAnswer(500, {"status": 500, "message": "Internal Server Error"})
        if path.rstrip("/") == API:
            return HubAnswer(200, {"version": self.VERSION})
        if path == f"{API}/oauth2/authorize":
            return self._authorize({key: values[0] for key, values in parse_qs(query).items()})
        if path == f"{API}/oauth2/token":
            return self._token({key: values[0] for key, values in parse_qs(body.decode()).items()})
        token = authorization.partition(" ")[2]
        if path == f"{API}/user":
            return self._user(token)
        parts = path.removeprefix(f"{API}/").split("/")
        if method == "POST" and parts[0] == "sign-out":
            return self._sign_out(parts[1], token)
        if len(parts) == 4 and parts[0] == "users" and parts[2] == "servers":
            return self._server(method, parts[1], parts[3], token, body)
        if parts[-1] == "progress" and (parts[1], parts[3]) in self.refused:
            event = {"progress": 100, "failed": True, "message": f"Spawn failed: {self.refused[parts[1], parts[3]]}"}
            return HubAnswer(
                200, None, {"Content-Type": "text/event-stream"}, text=f"\n\ndata: {json.dumps(event)}\n\n"
            )
        return HubAnswer(404, {"status": 404, "message": f"Not Found: {path}"})

    def _user(self, token: str) -> "HubAnswer":
        if token not in self.tokens:
            return HubAnswer(403, {"status": 403, "message": "Forbidden"})
        name, scopes = self.tokens[token]
        account = self.accounts[name]
        return HubAnswer(
            200, {"kind": "user", "name": name, "admin": account.admin, "groups": list(account.groups), "scopes": sorted(scopes)}
        )  # fmt: skip

    def _sign_out(self, user: str, token: str) -> "HubAnswer":
        if token != self.service_token:
            return HubAnswer(403, {"status": 403, "message": "This is for Moorage's service."})
        self.tokens = {key: value for key, value in self.tokens.items() if value[0] != user}
        return HubAnswer(204, None)

    def _server(self, method: str, user: str, server: str, token: str, body: bytes) -> "HubAnswer":
        owner = self.tokens.get(token, ("", frozenset()))[0]
        if token != self.service_token and owner != user:
            return HubAnswer(403, {"status": 403, "message": "Action is not authorized with current scopes"})
        if method == "POST":
            if (user, server) in self.servers:
                return HubAnswer(400, {"status": 400, "message": f"{user}/{server} is already running"})
            self.servers[user, server] = dict(json.loads(body or b"{}").get("user_options") or {})
            return HubAnswer(202, None)
        if self.servers.pop((user, server), None) is None:
            return HubAnswer(404, {"status": 404, "message": f"{user} has no server named '{server}'"})
        return HubAnswer(204, None)

    def _authorize(self, asked: dict[str, str]) -> "HubAnswer":
        if self.signed_in is None:
            return HubAnswer(403, {"status": 403, "message": "Nobody is signed in."})
        code = secrets.token_hex(8)
        self.codes[code] = self.signed_in
        target = f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
        return HubAnswer(302, None, {"Location": target})

    def _token(self, asked: dict[str, str]) -> "HubAnswer":
        name = self.codes.pop(asked.get("code", ""), None)
        if name is None or asked.get("client_secret") != self.service_token:
            return HubAnswer(400, {"error": "invalid_grant"})
        return HubAnswer(200, {"access_token": self.add_token(name), "token_type": "Bearer"})

    def _answer_httpx(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("connection refused", request=request)
        found = self.answer(
            request.method, request.url.path, request.url.query.decode(), request.headers.get("authorization", ""), request.content
        )  # fmt: skip
        return httpx.Response(found.status, content=found.body, headers=found.headers)


@dataclass(frozen=True)
class HubAnswer:
    status: int
    model: Any
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def body(self) -> bytes:
        return self.text.encode() if self.model is None else json.dumps(self.model).encode()


def _handler_for(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            found = hub.answer(self.command, path, query, self.headers.get("Authorization") or "", body)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - names that http.server looks up

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    return Handler
