"""Where a browser finds things. Every address that a browser is given is built here, for hub, service and tests alike.

With one user there is one origin. With more, hub and portal are on the portal's origin; each user's servers are on an
origin of their own, `NAME.<host>`; and what clusters and notebooks wrote is on the content origin, `content.<host>`. To a
browser these are strangers: none reads another's pages or cookies.
"""

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

PREFIX = "/services/moorage"
CONTENT = "content"  # the label of the content origin
RESERVED = frozenset({CONTENT, "localhost", "www"})  # labels that no user's servers may have
OWN_PORTS = {"http": 80, "https": 443}
Door = Literal["portal", "content", "user"]


@dataclass(frozen=True)
class Origins:
    """`portal` is an origin without a slash at its end. Raises ValueError, with a sentence, where it can't be one."""

    portal: str
    per_user: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.portal)
        if parts.scheme not in OWN_PORTS or not parts.hostname or parts.path or parts.query or "@" in parts.netloc:
            raise ValueError(
                f"public_url {self.portal!r} is no origin; write one such as https://moorage.example.org, without a path"
            )
        if self.per_user and is_address(parts.hostname):
            raise ValueError(
                f"public_url {self.portal!r} is an address without a name, below which users can have no origins of their own; "
                "give a name with wildcard DNS, or set `origins: one`"
            )

    @property
    def netloc(self) -> str:
        return urlsplit(self.portal).netloc

    @property
    def host(self) -> str:
        return urlsplit(self.portal).hostname or ""

    @property
    def secure(self) -> bool:
        return self.portal.startswith("https://")

    @property
    def content(self) -> str | None:
        """The content origin; None where there is one origin for all."""
        return self._below(CONTENT) if self.per_user else None

    def at(self, path: str) -> str:
        """A path of the portal's origin; an address stays as it is."""
        return path if "://" in path else f"{self.portal}{path}"

    def page(self, path: str = "/") -> str:
        """A page of the portal, such as "/projects"."""
        return self.at(f"{PREFIX}{path}")

    def hub(self, path: str, **query: str) -> str:
        """A page of the hub, such as "/login"."""
        return self.at(f"/hub{path}") + (f"?{urlencode(query)}" if query else "")

    def server(self, user: str, project: str, below: str = "") -> str:
        """A notebook server: from here the hub sends a browser on to the user's own origin."""
        return self.at(server_path(user, project) + below)

    def host_of(self, label: str) -> str:
        return f"{label}.{self.host}"

    def door(self, host: str) -> Door | None:
        """Which of the origins a Host header names; None for a name that is not ours."""
        name, port = split_host(host, OWN_PORTS[urlsplit(self.portal).scheme])
        own = split_host(self.netloc, OWN_PORTS[urlsplit(self.portal).scheme])
        if port != own[1]:
            return None
        if name == own[0]:
            return "portal"
        label, _, rest = name.partition(".")
        if not self.per_user or rest != own[0] or not label:
            return None
        return "content" if label == CONTENT else "user"

    def is_own(self, origin: str) -> bool:
        """Whether an Origin header names the portal's own."""
        scheme, _, netloc = origin.partition("://")
        return scheme == urlsplit(self.portal).scheme and self.door(netloc) == "portal"

    def _below(self, label: str) -> str:
        parts = urlsplit(self.portal)
        return f"{parts.scheme}://{label}.{parts.netloc}"


def server_path(user: str, project: str) -> str:
    return f"/user/{quote(user, safe='@~')}/{quote(project)}/"


def free_label(label: str, name: str) -> str:
    """The host label of a user's servers: `label`, unless it is reserved."""
    if label not in RESERVED:
        return label
    return f"r-{label}--{hashlib.sha256(name.encode()).hexdigest()[:7]}"


def split_host(host: str, default_port: int) -> tuple[str, int | None]:
    """A Host header's name, in lower case, and port; the port is None where it is no number."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or host.endswith("]"):  # an IPv6 address without a port
        return host.strip().lower(), default_port
    return name, int(port) if port.isascii() and port.isdigit() else None


def is_address(host: str) -> bool:
    """Whether it is an IP address, in any of the forms that browsers take for one: 127.1 and 0x7f000001, too."""
    last = host.rstrip(".").rpartition(".")[2]
    return ":" in host or last.isdigit() or last.startswith("0x")


def is_loopback(host: str) -> bool:
    """Whether it names this machine itself: localhost, or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
