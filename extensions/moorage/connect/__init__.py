"""Connecting this process to a cluster: `connect(cluster_id, name, attach, dashboard)` gives the engine's own object."""

from typing import Any

from moorage.connect import dask_client, ray_driver
from moorage.errors import ConnectRefused
from moorage.wire import Attach


def connect(cluster_id: str, name: str, attach: Attach, dashboard: str | None = None) -> Any:
    """Ray: the context of `ray.init`; Dask: a `distributed.Client`. The same again while it is connected already.

    `dashboard` is its address for a browser, for what the engine's own object shows. Raises the ClusterErrors of
    `moorage.errors`: EngineMissing, VersionMismatch, ConnectRefused.
    """
    if attach.engine == "ray":
        return ray_driver.connect(cluster_id, name, attach, dashboard)
    if attach.engine == "dask":
        return dask_client.connect(cluster_id, name, attach, dashboard)
    raise ConnectRefused(
        f"Cluster {name} runs {attach.engine}, which this release of moorage does not know. "
        "Rebuild the project to renew the client."
    )


def disconnect(cluster_id: str) -> None:
    """Let go of a cluster before it stops. Nothing happens when this process is not connected to it."""
    ray_driver.disconnect(cluster_id)
    dask_client.disconnect(cluster_id)


def is_connected(cluster_id: str) -> bool:
    return ray_driver.is_connected(cluster_id) or dask_client.is_connected(cluster_id)
