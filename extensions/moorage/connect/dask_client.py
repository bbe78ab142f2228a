"""Connects this process to Dask clusters over TLS. `distributed` is imported only once it is asked for."""

import importlib
import platform
import threading
import warnings
from typing import Any

from moorage.connect import preflight
from moorage.errors import ConnectRefused, EngineMissing
from moorage.wire import Attach

CONNECT_S = 15

_lock = threading.RLock()
_clients: dict[str, Any] = {}


def connect(cluster_id: str, name: str, attach: Attach, dashboard: str | None = None) -> Any:
    """A `distributed.Client` of the cluster, set as the default; the same one again while it is connected.

    Raises EngineMissing and ConnectRefused; differing versions only warn, as Dask itself does.
    """
    distributed = _import_distributed(name)
    with _lock:
        if is_connected(cluster_id):
            return _clients[cluster_id]
        local = preflight.Local(python=platform.python_version(), engine=distributed.__version__)
        warning = preflight.dask_warning(name, attach, local)
        if warning is not None:
            warnings.warn(warning, stacklevel=3)
        if dashboard is not None:  # a template to Dask, shown by the client; its own address is for nobody's browser
            link = dashboard.replace("{", "{{").replace("}", "}}")
            importlib.import_module("dask").config.set({"distributed.dashboard.link": link})
        security = None
        if attach.tls_ca is not None:
            security = distributed.Security(
                require_encryption=True,
                tls_ca_file=attach.tls_ca,
                tls_client_cert=attach.tls_cert,
                tls_client_key=attach.tls_key,
            )
        try:
            client = distributed.Client(attach.address, security=security, timeout=CONNECT_S, set_as_default=True)
        except (OSError, TimeoutError, distributed.CommClosedError) as error:
            raise ConnectRefused(
                f"Dask could not connect to cluster {name} at {attach.address}: {error}. It may be stopping: look at "
                "its page or `moorage cluster log`, and start a new one if it is gone."
            ) from error
        _clients[cluster_id] = client
        return client


def disconnect(cluster_id: str) -> None:
    """Close this process's client of the cluster, if there is one."""
    with _lock:
        client = _clients.pop(cluster_id, None)
    if client is not None:
        client.close()


def is_connected(cluster_id: str) -> bool:
    with _lock:
        client = _clients.get(cluster_id)
        return client is not None and client.status == "running"


def _import_distributed(name: str) -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise EngineMissing(
            f"Cluster {name} runs Dask, and this kernel's environment has no distributed ({error}). "
            "Add `dask[distributed]` to the packages in moorage.yaml, build the project, and restart the notebook."
        ) from error
