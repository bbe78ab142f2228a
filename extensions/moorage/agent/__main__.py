"""`python -m moorage.agent`: reports until it is ended. Settings come by environment (see `config`)."""

import asyncio
import logging
import sys

from moorage.agent.config import AgentConfig, ConfigError
from moorage.agent.engine import Engine
from moorage.agent.loop import Agent
from moorage.agent.service import Service


def make_engine(config: AgentConfig) -> Engine:
    """The engine's own library is imported here and not before: a project has one of them."""
    if config.engine == "ray":
        from moorage.agent.ray import RayEngine

        return RayEngine(config)
    from moorage.agent.dask import DaskEngine

    return DaskEngine(config)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    try:
        config = AgentConfig.from_environment()
    except ConfigError as error:
        sys.exit(f"moorage.agent: {error}")
    service = Service(config.api_url, config.token)
    asyncio.run(Agent(config, make_engine(config), service).run())


if __name__ == "__main__":
    main()
