"""An OpenID provider in a process of its own: `oidc-provider-mock` (Authlib), which asks besides for PKCE as strict providers do.

`python -m tests.fakes.openid_provider PORT`, or `serving()`. Whoever "signs in" there says which account they are: tests choose the
claims of each. Clients are registered with a secret and the addresses they may be sent back to.
"""

import hashlib
import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.ports import free_port
from tests.waiting import eventually


@dataclass(frozen=True)
class OpenIdProvider:
    url: str

    @contextmanager
    def away(self) -> Iterator[None]:
        """It fails, as a provider in trouble does: whatever it is asked, it answers 503."""
        httpx.put(f"{self.url}/away", json=True, trust_env=False, timeout=60).raise_for_status()
        try:
            yield
        finally:
            httpx.put(f"{self.url}/away", json=False, trust_env=False, timeout=60).raise_for_status()

    def account(self, sub: str, **claims: Any) -> None:
        """Makes the account, or changes all its claims."""
        httpx.put(f"{self.url}/users/{sub}", json=claims, trust_env=False, timeout=60).raise_for_status()

    def revoke(self, sub: str) -> None:
        """All that was given to this account's clients, as when an account is removed."""
        httpx.post(f"{self.url}/users/{sub}/revoke-tokens", trust_env=False, timeout=60).raise_for_status()

    def register(self, callback: str) -> tuple[str, str]:
        """A client's id and secret."""
        answer = httpx.post(
            f"{self.url}/oauth2/clients",
            json={"redirect_uris": [callback], "token_endpoint_auth_method": "client_secret_post"},
            trust_env=False,
        )
        given = answer.raise_for_status().json()
        return given["client_id"], given["client_secret"]

    def endpoints(self) -> dict[str, str]:
        """By discovery, as a person would copy them."""
        found = (
            httpx.get(f"{self.url}/.well-known/openid-configuration", trust_env=False, timeout=60)
            .raise_for_status()
            .json()
        )
        return {
            "authorize_url": found["authorization_endpoint"],
            "token_url": found["token_endpoint"],
            "userdata_url": found["userinfo_endpoint"],
        }


@contextmanager
def serving() -> Iterator[OpenIdProvider]:
    provider = OpenIdProvider(f"http://localhost:{free_port()}")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.openid_provider", str(urlsplit(provider.url).port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: _answers(provider.url), what="the OpenID provider's answer")
        yield provider
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/.well-known/openid-configuration", trust_env=False, timeout=60).is_success
    except httpx.TransportError:
        return False


def main(port: int) -> None:
    import flask
    import oidc_provider_mock
    from werkzeug.serving import run_simple

    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # on the loopback address
    app = oidc_provider_mock.app(require_client_registration=True)
    challenges: dict[str, str] = {}

    away = [False]

    def be_away() -> dict[str, bool]:
        away[0] = bool(flask.request.json)
        return {"away": away[0]}

    def refuse() -> tuple[str, int] | None:
        return ("in trouble", 503) if away[0] and flask.request.path != "/away" else None

    def remember(response: flask.Response) -> flask.Response:
        code = parse_qs(urlsplit(response.headers.get("Location", "")).query).get("code")
        if code and flask.request.args.get("code_challenge_method") == "S256":
            challenges[code[0]] = flask.request.args["code_challenge"]
        return response

    def verify() -> tuple[dict[str, str], int] | None:
        form = flask.request.form
        if flask.request.path != "/oauth2/token" or form.get("grant_type") != "authorization_code":
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        expected = challenges.pop(form.get("code", ""), None)
        if expected is None or urlsafe_b64encode(digest).decode().rstrip("=") != expected:
            return {"error": "invalid_grant", "error_description": "PKCE: the code verifier does not fit"}, 400
        return None

    app.add_url_rule("/away", view_func=be_away, methods=["PUT"])
    app.before_request(refuse)
    app.before_request(verify)
    app.after_request(remember)
    run_simple("localhost", port, app.wsgi_app, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
