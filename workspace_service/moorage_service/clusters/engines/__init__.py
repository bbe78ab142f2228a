"""Engines: what a cluster runs. Each turns a spec into a plan, and knows what its environment must hold."""

from moorage.wire.clusters import EngineName
from moorage_service.clusters.engines.base import Engine
from moorage_service.clusters.engines.dask import Dask
from moorage_service.clusters.engines.ray import Ray

ENGINES: dict[EngineName, Engine] = {"ray": Ray(), "dask": Dask()}

__all__ = ["ENGINES", "Engine"]
