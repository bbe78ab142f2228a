"""Names and passwords of registries, from a `.dockerconfigjson`, the form of Kubernetes' image pull secrets."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from moorage_images.errors import UnauthorizedError

_LARGEST = 1 << 20
_DOCKER = ("docker.io", "index.docker.io", "registry-1.docker.io")  # names of one registry


@dataclass(frozen=True)
class Credential:
    name: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


Credentials = Mapping[str, Credential]  # by host, with its port


def read(path: Path) -> Credentials:
    """Raises UnauthorizedError when the file is not there or is none; what it says is in no message."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(_LARGEST))
        return {_host(place): _credential(one) for place, one in said.get("auths", {}).items() if one}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UnauthorizedError(
            f"The credentials in {path} can't be read ({type(error).__name__}). "
            "An admin has to make the secret again, by `kubectl create secret docker-registry`."
        ) from None


def _credential(said: Mapping[str, str]) -> Credential:
    if "auth" not in said:
        return Credential(said["username"], said["password"])
    try:
        text = base64.b64decode(said["auth"], validate=True).decode()
    except binascii.Error as error:
        raise ValueError("auth") from error
    name, colon, password = text.partition(":")
    if not colon:
        raise ValueError("auth")
    return Credential(name, password)


def _host(place: str) -> str:
    """ "https://index.docker.io/v1/" and "docker.io" are one."""
    host = urlsplit(place if "://" in place else f"//{place}").netloc
    return "docker.io" if host in _DOCKER else host
