"""The way to the cluster's API server: as the pod in which we run, or as a kubeconfig says, for tests and by hand."""

import os

from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration

from moorage_spawners.launch.errors import LaunchError


async def connect() -> ApiClient:
    """A client of one's own; close it. Its streams are as many as there are users, so nothing bounds its connections.

    Raises LaunchError with the remedy when there is no cluster to be seen.
    """
    configuration = Configuration()
    try:
        file = os.environ.get("KUBECONFIG")
        if file:
            await config.load_kube_config(config_file=file, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise LaunchError(
            f"There is no way to the cluster's API server: {error} Run it in a pod with a service account, or set KUBECONFIG."
        ) from error
    configuration.connection_pool_maxsize = 0  # aiohttp: no bound
    return ApiClient(configuration)
