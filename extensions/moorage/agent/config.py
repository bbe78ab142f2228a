"""What the agent is told, by environment variables. Read here, and nowhere else in the agent."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass


class ConfigError(Exception):
    """A variable is missing or can't be read; the text names it."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """`worker`: what one worker offers, as the engine counts it ({"CPU": 2, "memory": bytes}).

    `ports`: ports of this host that must answer before the cluster counts as ready.
    """

    api_url: str
    token: str
    generation: int
    engine: str
    address: str
    min_workers: int
    worker: Mapping[str, float]
    ports: tuple[int, ...] = ()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "AgentConfig":
        found = os.environ if environ is None else environ
        try:
            engine = found["MOORAGE_AGENT_ENGINE"]
            if engine not in ("ray", "dask"):
                raise ConfigError(f"MOORAGE_AGENT_ENGINE is {engine!r}; it must be ray or dask.")
            return cls(
                api_url=found["MOORAGE_API_URL"].rstrip("/"),
                token=found["MOORAGE_TOKEN"],
                generation=int(found["MOORAGE_GENERATION"]),
                engine=engine,
                address=found["MOORAGE_AGENT_ADDRESS"],
                min_workers=int(found["MOORAGE_AGENT_MIN_WORKERS"]),
                worker={name: float(amount) for name, amount in json.loads(found["MOORAGE_AGENT_WORKER"]).items()},
                ports=tuple(int(port) for port in found.get("MOORAGE_AGENT_PORTS", "").split(",") if port),
            )
        except KeyError as error:
            raise ConfigError(f"{error.args[0]} is not set; the service sets it when it starts a cluster.") from error
        except ValueError as error:
            raise ConfigError(f"a variable of the agent can't be read: {error}.") from error
