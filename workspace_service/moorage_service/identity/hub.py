"""The hub, as the service sees it: whose token is this, and start or stop a server for a user.

Blocking (httpx); call it outside database sessions. A hub that is down raises `Unavailable` with a sentence.
"""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from moorage_service.errors import Conflict, Unavailable
from moorage_service.identity.keys import lines_of


@dataclass(frozen=True)
class HubUser:
    name: str
    admin: bool
    groups: tuple[str, ...]
    scopes: frozenset[str]


class HubClient:
    def __init__(
        self, api_url: str, token_file: Path, *, cache_s: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(base_url=api_url, timeout=15, transport=transport, trust_env=False)
        self._token_file = token_file
        self._cache_s = cache_s
        self._cache: dict[str, tuple[float, HubUser | None]] = {}  # token's hash -> when asked, answer
        self._lock = threading.Lock()

    def close(self) -> None:
        self._http.close()

    @property
    def service_token(self) -> str:
        try:
            return lines_of(self._token_file.read_bytes())[0].decode()
        except (OSError, IndexError) as error:
            raise Unavailable(
                f"The service has no token for the hub: {self._token_file} can't be read. Start Moorage with `make up`, which makes it.",
                code="hub_unavailable",
            ) from error

    def user_for_token(self, token: str, *, cache_s: float | None = None) -> HubUser | None:
        """The token's owner, or None when the hub does not know it (any more).

        The answer may be `cache_s` seconds old (else as set): so long does a token that was revoked still work.
        """
        now = time.monotonic()
        key = hashlib.sha256(token.encode()).hexdigest()  # the process's memory holds no tokens longer than a request
        with self._lock:
            known = self._cache.get(key)
            if known is not None and now - known[0] < (self._cache_s if cache_s is None else cache_s):
                return known[1]
        # Somebody waits for a page: a hub that hangs must not keep them.
        response = self._call("GET", "/user", token=token, timeout=5)
        user = None
        if response.status_code not in (401, 403, 404):
            # A hub in trouble says nothing about the token.
            self._check(response, "say whose token this is")
            model = response.json()
            if model.get("kind") == "user":
                user = HubUser(
                    name=model["name"],
                    admin=bool(model.get("admin")),
                    groups=tuple(model.get("groups") or ()),
                    scopes=frozenset(model.get("scopes") or ()),
                )
        with self._lock:
            if len(self._cache) > 1000:
                self._cache.clear()
            self._cache[key] = (now, user)
        return user

    def start_server(self, user: str, server: str, options: Mapping[str, Any], *, token: str) -> None:
        """Asks the hub to start a named server with the user's own token. Already running: nothing."""
        response = self._call("POST", _server(user, server), token=token, json={"user_options": dict(options)})
        if response.status_code == 400 and "already running" in response.text:
            return
        self._check(response, "start the notebook")

    def failed_start(self, user: str, server: str, *, token: str) -> str | None:
        """Why the hub gave up the latest start of a server, as whoever refused it said; None of one under way, of none, or not told."""
        path, headers = f"{_server(user, server)}/progress", {"Authorization": f"token {token}"}
        try:
            with self._http.stream("GET", path, headers=headers, timeout=3) as events:
                if not events.is_success:
                    return None
                said = (line.removeprefix("data:") for line in events.iter_lines() if line.startswith("data:"))
                first = json.loads(next(said, "{}"))  # of what goes on others would follow
        except (httpx.HTTPError, ValueError):
            return None
        return str(first.get("message", "")).removeprefix("Spawn failed: ") if first.get("failed") else None

    def stop_server(self, user: str, server: str, *, token: str | None = None) -> None:
        """Stops a named server; already stopped: nothing."""
        response = self._call("DELETE", _server(user, server), token=token or self.service_token)
        if response.status_code in (404, 204, 202) or "not running" in response.text:
            return
        self._check(response, "stop the notebook")

    def version(self) -> str:
        """JupyterHub's. Raises Unavailable within seconds when the hub does not answer."""
        response = self._call("GET", "/", timeout=3)
        self._check(response, "say its version")
        return str(response.json().get("version", ""))

    def sign_out(self, user: str) -> None:
        """Ends the user's sessions at the hub, in every browser, and the tokens they made there. Unknown to the hub: nothing."""
        self.forget()
        response = self._call("POST", f"/sign-out/{quote(user, safe='')}", token=self.service_token, timeout=5)
        if response.status_code != 404:
            self._check(response, "sign the user out")

    def forget(self) -> None:
        """What was remembered of tokens is asked anew."""
        with self._lock:
            self._cache.clear()

    def exchange_code(self, code: str, *, client_id: str, redirect_uri: str) -> str:
        """OAuth: swaps a code for the user's access token."""
        response = self._call(
            "POST",
            "/oauth2/token",
            data={"client_id": client_id, "client_secret": self.service_token, "grant_type": "authorization_code",
                  "code": code, "redirect_uri": redirect_uri},
        )  # fmt: skip
        self._check(response, "sign you in")
        return str(response.json()["access_token"])

    def _call(self, method: str, path: str, *, token: str | None = None, **content: Any) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"token {token}"}
        try:
            return self._http.request(method, path, headers=headers, **content)
        except httpx.HTTPError as error:
            raise Unavailable(
                "The hub does not answer. Try again in a moment; an admin finds its log in the logs folder.",
                code="hub_unavailable",
            ) from error

    @staticmethod
    def _check(response: httpx.Response, action: str) -> None:
        if response.is_success:
            return
        try:
            detail = str(response.json().get("message") or response.reason_phrase)
        except ValueError:
            detail = response.reason_phrase
        if response.status_code >= 500:
            raise Unavailable(f"The hub could not {action}: {detail}", code="hub_failed")
        raise Conflict(f"The hub would not {action}: {detail}", code="hub_refused")


def _server(user: str, server: str) -> str:
    # Names are the hub's to choose: one with a slash must not reach another route.
    return f"/users/{quote(user, safe='')}/servers/{quote(server, safe='')}"
