"""Looks before the leap: what would fail, and why, in a sentence instead of Ray's silent 30 seconds. No ray needed here."""

from dataclasses import dataclass
from typing import Literal

import httpx

from moorage.errors import ConnectRefused, VersionMismatch
from moorage.wire import Attach

PROBE_S = 5.0

Way = Literal["native", "client"]


@dataclass(frozen=True, kw_only=True)
class Local:
    """What runs here: full versions, such as python "3.11.2" and engine "2.60.0"."""

    python: str
    engine: str


def probe_ray(name: str, attach: Attach, *, transport: httpx.BaseTransport | None = None) -> str | None:
    """The cluster's own ray version, from its dashboard; None when there is no address to ask.

    Raises ConnectRefused with the reason when the cluster refuses the token or cannot be reached.
    """
    if attach.probe_url is None:
        return None
    url = f"{attach.probe_url.rstrip('/')}/api/version"
    headers = {} if attach.token is None else {"Authorization": f"Bearer {attach.token}"}
    try:
        with httpx.Client(timeout=PROBE_S, transport=transport, trust_env=False) as http:
            response = http.get(url, headers=headers)
    except httpx.HTTPError as error:
        why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "could not be reached"
        raise ConnectRefused(
            f"Cluster {name} {why} at {attach.probe_url}. It may be stopping or out of memory: look at its page or "
            "`moorage cluster log`, and start a new one if it is gone."
        ) from error
    if response.status_code in (401, 403):
        word = "asks for a token" if response.status_code == 401 else "refuses this token"
        raise ConnectRefused(
            f"Cluster {name} {word}: it was started anew since. Run moorage.attach() again to get the present token."
        )
    if response.status_code != 200:
        raise ConnectRefused(
            f"Cluster {name} answered its version request with HTTP {response.status_code}. "
            "See `moorage cluster log`; stop it and start a new one if this stays."
        )
    return _version(response)


def _version(response: httpx.Response) -> str | None:
    try:
        body = response.json()
    except ValueError:
        return None
    version = body.get("ray_version") if isinstance(body, dict) else None
    return version if isinstance(version, str) else None


def choose_ray_way(name: str, attach: Attach, local: Local, probed: str | None) -> Way:
    """A native driver when python (to the patch) and ray are the same, else Ray Client when it can be.

    Raises VersionMismatch when neither works.
    """
    theirs_ray = probed or attach.versions.get("ray")
    theirs_python = attach.versions.get("python")
    if theirs_ray is not None and theirs_ray != local.engine:
        raise VersionMismatch(
            f"Cluster {name} runs ray {theirs_ray}, and this kernel has ray {local.engine}. They must be the same: "
            "restart the kernel if the project was rebuilt, or stop this cluster and start a new one. "
            "(A ray from %pip install is not on the workers: remove it.)"
        )
    if theirs_python is None or theirs_python == local.python:
        return "native"
    if _minor(theirs_python) == _minor(local.python) and attach.client_address is not None:
        return "client"
    raise VersionMismatch(
        f"Cluster {name} runs python {theirs_python}, and this kernel has python {local.python}. "
        "Restart the notebook so that both use the project's present environment, or start a new cluster."
    )


def dask_warning(name: str, attach: Attach, local: Local) -> str | None:
    """A sentence when versions differ: Dask connects all the same, and fails later in odd ways."""
    differing = [
        f"{what} {theirs} (here {ours})"
        for what, theirs, ours in (
            ("distributed", attach.versions.get("distributed"), local.engine),
            ("python", attach.versions.get("python"), local.python),
        )
        if theirs is not None and theirs != ours
    ]
    if not differing:
        return None
    return (
        f"Cluster {name} runs {' and '.join(differing)}. Work may fail in odd ways: restart the kernel if the project "
        "was rebuilt, or start a new cluster."
    )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
