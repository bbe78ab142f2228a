"""A notebook server that runs already: where it listens, and by which token the hub knows it."""

import re
from dataclasses import dataclass
from pathlib import Path

from moorage_spawners.launch import Observation
from moorage_spawners.readiness import NotReady

PORT_LABEL = "port"
TOKEN = re.compile(rb"JUPYTERHUB_API_TOKEN=([0-9A-Za-z_-]{16,128})")


@dataclass(frozen=True)
class RunningServer:
    port: int
    hub_token: str

    @staticmethod
    def of(seen: Observation | None) -> "RunningServer":
        """Raises NotReady when nothing runs, or when it does not say what is needed to take it over."""
        if seen is None or seen.pid is None or seen.state != "running":
            raise NotReady("It ended in this moment.")
        port = seen.labels.get(PORT_LABEL, "")
        if not port.isdecimal():
            raise NotReady("It was started by an earlier version, which did not note its port.")
        return RunningServer(int(port), _hub_token(seen.pid))


def _hub_token(pid: int) -> str:
    # From the process alone: the hub keeps a hash of it, and no file holds it.
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError as error:
        raise NotReady("It ended in this moment.") from error
    found = [match for each in variables if (match := TOKEN.fullmatch(each))]
    if len(found) != 1:
        raise NotReady("Its token for the hub can't be found.")
    return found[0].group(1).decode()
