"""Registries for tests: Debian's `docker-registry`, on a port of its own, open, behind a password, or behind a token service."""

import base64
import contextlib
import datetime
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import bcrypt
import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.ports import free_port
from tests.waiting import eventually

NAME, PASSWORD = "moorage", "p:ss wörd"


@dataclass(frozen=True)
class RunningRegistry:
    """`host` with its port; `log` has a line for each request."""

    host: str
    storage: Path
    log: Path

    def requests(self) -> list[str]:
        """ "METHOD PATH STATUS" of each so far."""
        found = []
        for line in self.log.read_text().splitlines():
            _, _, rest = line.partition('] "')
            request, quote, status = rest.partition('" ')
            if quote:
                found.append(f"{request.rpartition(' ')[0]} {status.split()[0]}")
        return found


@contextlib.contextmanager
def running(folder: Path, *extra: str, deletes: bool = True) -> Iterator[RunningRegistry]:
    """`extra`: further lines of its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not there: apt-get install docker-registry")
    folder.mkdir(exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    storage = f"{{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: {str(deletes).lower()}}}}}"
    lines = ("version: 0.1", "log: {level: warn}", f"storage: {storage}", f"http: {{addr: '{host}'}}", *extra)
    (folder / "registry.yml").write_text("\n".join(lines) + "\n")
    environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", folder / "registry.yml"], stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            eventually(lambda: process.poll() is not None or _answers(host), what="docker-registry")
            assert process.poll() is None, (folder / "log").read_text()
            yield RunningRegistry(host, folder / "data", folder / "log")
        finally:
            process.terminate()
            process.wait()


def _answers(host: str) -> bool:
    try:
        return httpx.get(f"http://{host}/v2/", trust_env=False).status_code in (200, 401)
    except httpx.TransportError:
        return False


def behind_password(folder: Path) -> str:
    """A line of configuration. bcrypt is the one form that the registry takes."""
    folder.mkdir(exist_ok=True)
    told = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "htpasswd").write_text(f"{NAME}:{told}\n")
    return f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}"


class TokenService:
    """Gives tokens for what its one user may do, everything, and to strangers for what they may: read. Use as a context."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.asked: list[dict[str, list[str]]] = []
        self.lifetime_s = 60
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = self._self_signed()
        self._bundle = folder / "token.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = service.answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "TokenService":
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def line(self) -> str:
        return (
            f"auth: {{token: {{realm: 'http://{self.host}/token', service: test, issuer: tests, "
            f"rootcertbundle: {self._bundle}}}}}"
        )

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        asked = parse_qs(urlsplit(path).query)
        self.asked.append(asked)
        expected = "Basic " + base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        if authorization not in (None, expected):
            return 401, b"{}"
        access = []
        for scope in asked.get("scope", []):
            kind, name, actions = scope.split(":")
            may = set(actions.split(",")) & ({"pull", "push", "delete"} if authorization else {"pull"})
            access.append({"type": kind, "name": name, "actions": sorted(may)})
        now = int(time.time())
        claims = {
            "iss": "tests", "sub": NAME, "aud": asked["service"][0], "exp": now + self.lifetime_s, "nbf": now - 5, "iat": now,
            "jti": "1", "access": access,
        }  # fmt: skip
        chain = [base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()]
        return 200, json.dumps(
            {"token": jwt.encode(claims, self._key, algorithm="RS256", headers={"x5c": chain})}
        ).encode()

    def _self_signed(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(self._key, hashes.SHA256())
