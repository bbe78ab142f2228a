"""What a build needs to reach the package index, and what of it the code of packages must not see."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote

# Nothing else of our process environment reaches a build.
VARIABLES = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX_STRATEGY", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS",
    "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT",
)  # fmt: skip
# "user:password@" after "scheme://", or without a scheme at a proxy's beginning; a variable may hold several addresses.
_USERINFO = re.compile(r"(?<=://)[^/\s?#]*@|^[^/\s?#:@]+:[^/\s?#@]*@")


def network_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Of `environ`, what a build needs to reach the package index."""
    return {name: environ[name] for name in VARIABLES if name in environ}


def without_credentials(network: Mapping[str, str]) -> dict[str, str]:
    """The same addresses without names and passwords: for whatever runs the code of packages."""
    return {name: _USERINFO.sub("", value) for name, value in network.items()}


def has_credentials(network: Mapping[str, str]) -> bool:
    return without_credentials(network) != dict(network)


def hider(network: Mapping[str, str]) -> Callable[[str], str]:
    """Takes the names and passwords of the addresses out of a line, however they are written there."""
    pieces: set[str] = set()
    for value in network.values():
        for found in _USERINFO.findall(value):
            user, _, password = found.rstrip("@").partition(":")
            whole = {found, unquote(found)}
            secret = password or user  # a token alone stands where the name does
            pieces |= whole | {form for form in (secret, unquote(secret), quote(secret, safe="")) if len(form) >= 6}
    longest_first = sorted((piece for piece in pieces if piece), key=len, reverse=True)

    def hide(line: str) -> str:
        for piece in longest_first:
            line = line.replace(piece, "****@" if piece.endswith("@") else "****")
        return line

    return hide
