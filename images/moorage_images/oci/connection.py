"""Requests to registries: whom we are, what went wrong in words, and another try where one may help."""

import json
import re
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import tenacity

from moorage_images.errors import (
    BlobLostError,
    ImageNotFoundError,
    RefusedError,
    RegistryError,
    UnauthorizedError,
    UnreachableError,
)
from moorage_images.oci.credentials import Credentials

T = TypeVar("T")

LARGEST_DOCUMENT = 8 << 20  # bytes; registries take manifests of 4 MiB
_API_HOSTS = {"docker.io": "registry-1.docker.io"}
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"', re.ASCII)
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_LOST = ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN")
_CONNECT_S, _SILENCE_S = 10.0, 120.0  # a registry may take long to look through what it was sent


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: httpx.Headers
    body: bytes
    url: httpx.URL


class Connection:
    """To any number of registries. Blocking; close it, or use it as a context.

    `plain_http`: hosts, with their ports, that are asked without TLS and without a proxy. `authorities`: certificates (PEM) to trust
    in place of this machine's. A failure that may pass is tried
    `attempts` times, the first pause `wait_s` long, each further one longer.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        plain_http: Collection[str] = (),
        authorities: str = "",
        attempts: int = 4,
        wait_s: float = 0.5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._credentials = credentials
        self._plain_http = frozenset(plain_http)
        self._basic: set[str] = set()  # hosts that asked for a name and a password
        self._tokens: dict[tuple[str, tuple[str, ...]], str] = {}
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_exponential(multiplier=wait_s, max=30 * wait_s) + tenacity.wait_random(0, wait_s),
            retry=tenacity.retry_if_exception_type(UnreachableError),
            reraise=True,
        )
        direct = {f"http://{host}": httpx.HTTPTransport() for host in self._plain_http}
        self._http = httpx.Client(
            timeout=httpx.Timeout(_SILENCE_S, connect=_CONNECT_S),
            transport=transport,
            verify=_trusting(authorities) if authorities else True,
            mounts=None if transport else direct,
            headers={"User-Agent": "moorage"},
        )

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def again(self, action: Callable[[], T]) -> T:
        """What the action answers; tried again while it raises UnreachableError. It must bear being done twice."""
        return self._retrying(action)

    def url(self, host: str, path: str) -> httpx.URL:
        scheme = "http" if host in self._plain_http else "https"
        return httpx.URL(f"{scheme}://{_API_HOSTS.get(host, host)}/v2/{path}")

    def send(
        self,
        method: str,
        host: str,
        url: httpx.URL,
        *,
        scopes: Collection[str],
        accept: Collection[int],
        what: object,
        headers: Mapping[str, str] | None = None,
        content: Iterable[bytes] | bytes | None = None,
    ) -> Answer:
        """One request, without another try. `what` it is about is named in errors; `scopes` are rights as registries write them."""
        with self.open(
            method, host, url, scopes=scopes, accept=accept, what=what, headers=headers, content=content
        ) as response:
            body = b"" if method == "HEAD" else _read(response, what)
            return Answer(status=response.status_code, headers=response.headers, body=body, url=response.url)

    @contextmanager
    def open(
        self,
        method: str,
        host: str,
        url: httpx.URL,
        *,
        scopes: Collection[str],
        accept: Collection[int],
        what: object,
        headers: Mapping[str, str] | None = None,
        content: Iterable[bytes] | bytes | None = None,
    ) -> Iterator[httpx.Response]:
        """The same, for an answer of any length: its body is not read yet. Raises RegistryError for other than `accept`."""
        wanted = tuple(sorted(set(scopes)))
        ours = _origin(url) == _origin(self.url(host, ""))  # an upload may go elsewhere: our name does not go with it
        with _in_words(host):
            response = self._once(method, url, host if ours else None, wanted, headers, content)
            try:
                if response.status_code == 401 and ours:
                    response.close()
                    self._learn(host, wanted, response.headers.get_list("www-authenticate"), what)
                    response = self._once(method, url, host, wanted, headers, content)
                if response.status_code not in accept:
                    raise _refusal(method, response, what, host, known=host in self._credentials)
                yield response
            finally:
                response.close()

    def _once(
        self,
        method: str,
        url: httpx.URL,
        host: str | None,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None,
        content: Iterable[bytes] | bytes | None,
    ) -> httpx.Response:
        known = {} if host is None else self._authorization(host, scopes)
        request = self._http.build_request(method, url, headers={**(headers or {}), **known}, content=content)
        return self._http.send(request, stream=True, follow_redirects=method in ("GET", "HEAD"))

    def _authorization(self, host: str, scopes: tuple[str, ...]) -> dict[str, str]:
        if host in self._basic:
            return {"Authorization": self._credentials[host].basic}
        token = self._tokens.get((host, scopes))
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _learn(self, host: str, scopes: tuple[str, ...], challenges: list[str], what: object) -> None:
        """How this registry wants to know us, from its answer to a request without, or with what is no longer good."""
        for challenge in challenges:
            kind, _, rest = challenge.partition(" ")
            if kind.lower() == "bearer":
                said = dict(_PARAMETER.findall(rest))
                self._tokens[host, scopes] = self._token(host, scopes, said, what)
                return
            if kind.lower() == "basic" and host in self._credentials and host not in self._basic:
                self._basic.add(host)
                return
        raise _unauthorized(host, what, known=host in self._credentials)

    def _token(self, host: str, scopes: tuple[str, ...], said: Mapping[str, str], what: object) -> str:
        """From the service that the registry names; our password goes there only where nobody on the way can read it."""
        realm = urlsplit(said.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and realm.netloc in self._plain_http):
            raise UnauthorizedError(
                f"{host} sends us for a token to {said.get('realm', '')[:200]!r}, which is not https. "
                "An admin has to correct the registry, or name that host among those asked without TLS."
            )
        parameters: list[tuple[str, str | int | float | bool | None]] = [("scope", scope) for scope in scopes]
        if "service" in said:
            parameters.append(("service", said["service"]))
        credential = self._credentials.get(host)
        headers = {"Authorization": credential.basic} if credential else {}
        url = httpx.URL(said["realm"]).copy_merge_params(httpx.QueryParams(parameters))
        with self._http.stream("GET", url, headers=headers) as response:
            if response.status_code in (400, 401, 403):
                raise _unauthorized(host, what, known=credential is not None)
            if response.status_code != 200:
                raise UnreachableError(
                    f"The token service of {host} answered {response.status_code}. Try again later, or ask an admin."
                )
            try:
                answer = json.loads(_read(response, what))
                token = answer.get("token") or answer["access_token"]
                return str(token)
            except (ValueError, AttributeError, KeyError) as error:
                raise UnreachableError(f"The token service of {host} gave no token. Ask an admin.") from error


def _trusting(authorities: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authorities)
    except ssl.SSLError as error:
        raise UnauthorizedError(
            f"The certificates of authorities can't be read: {error}. An admin has to correct them; they are PEM text."
        ) from error


@contextmanager
def _in_words(host: str) -> Iterator[None]:
    try:
        yield
    except (httpx.TransportError, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
        raise UnreachableError(
            f"The registry {host} can't be reached: {why[:300]}. Try again later, or ask an admin whether it runs."
        ) from error


def _read(response: httpx.Response, what: object) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST_DOCUMENT:
            raise RefusedError(f"What the registry says about {what} is too long. Ask an admin to look at it.")
    return bytes(body)


def _refusal(method: str, response: httpx.Response, what: object, host: str, *, known: bool) -> RegistryError:
    code, message = ("", "") if method == "HEAD" else _first_error(_read(response, what))
    said = f"{response.status_code}{f' {code}' if code else ''}{f': {message}' if message else ''}"
    if response.status_code in (401, 403):
        return _unauthorized(host, what, known=known)
    if code in _LOST:
        return BlobLostError(f"A part of {what} is no longer in the registry ({said}). Build the environment again.")
    if response.status_code == 404:
        return ImageNotFoundError(f"{what} is not in the registry. Build it again, or correct the name.")
    if response.status_code in _TRANSIENT:
        return UnreachableError(f"The registry {host} answered {said}. Try again later, or ask an admin.")
    return RefusedError(f"The registry refuses {what} ({said}). Ask an admin to look at the registry's log.")


def _first_error(body: bytes) -> tuple[str, str]:
    try:
        first: dict[str, Any] = json.loads(body)["errors"][0]
        return str(first.get("code", ""))[:60], " ".join(str(first.get("message", "")).split())[:200]
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", ""


def _unauthorized(host: str, what: object, *, known: bool) -> UnauthorizedError:
    who = "refuses our name and password" if known else "wants a name and a password"
    return UnauthorizedError(f"The registry {host} {who} for {what}. An admin has to put good ones into its secret.")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
