"""Makes this process a driver of one Ray cluster at a time. Ray is imported here, and only once it is asked for."""

import importlib
import logging
import os
import platform
import threading
from dataclasses import dataclass
from typing import Any

from moorage.connect import preflight
from moorage.connect.lookout import Lookout
from moorage.errors import ConnectRefused, EngineMissing
from moorage.wire import Attach


@dataclass(frozen=True)
class _Connection:
    cluster_id: str
    context: Any
    lookout: Lookout | None  # a native driver's only


log = logging.getLogger(__name__)

_lock = threading.RLock()
_now: _Connection | None = None


def connect(cluster_id: str, name: str, attach: Attach, dashboard: str | None = None) -> Any:
    """The context of `ray.init`, connected to the cluster; the same one again while it is connected already.

    Another Moorage cluster is let go first. Raises EngineMissing, VersionMismatch, ConnectRefused.
    """
    global _now
    ray = _import_ray(name)
    with _lock:
        if is_connected(cluster_id):
            assert _now is not None
            return _now.context
        if _now is not None:
            disconnect(_now.cluster_id)
        elif ray.is_initialized():
            raise ConnectRefused(
                "Ray is already started in this kernel, outside Moorage. "
                f"Run ray.shutdown(), then connect to cluster {name} again."
            )
        probed = preflight.probe_ray(name, attach)
        local = preflight.Local(python=platform.python_version(), engine=ray.__version__)
        way = preflight.choose_ray_way(name, attach, local, probed)
        _set_credential(attach)
        if dashboard is not None:
            os.environ["RAY_OVERRIDE_DASHBOARD_URL"] = dashboard  # its own address would ask for the token
        address = attach.address if way == "native" else attach.client_address
        try:
            context = ray.init(address=address, logging_level="warning")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise ConnectRefused(
                f"Ray could not connect to cluster {name} at {address}: {error}. "
                "Try again; see `moorage cluster log` if it stays."
            ) from error
        _now = _Connection(cluster_id, context, _watch(cluster_id, name, attach.address) if way == "native" else None)
        return context


def disconnect(cluster_id: str) -> None:
    """Let go of this cluster, if this process holds it."""
    global _now
    with _lock:
        if _now is not None and _now.cluster_id == cluster_id:
            if _now.lookout is not None:
                _now.lookout.stop()
            _now = None
            importlib.import_module("ray").shutdown()


def is_connected(cluster_id: str) -> bool:
    with _lock:
        held = _now is not None and _now.cluster_id == cluster_id
        return held and bool(importlib.import_module("ray").is_initialized())


def _watch(cluster_id: str, name: str, address: str) -> Lookout:
    def gone() -> None:
        log.warning("Cluster %s has gone; this kernel let go of it. `cluster.status` says why; create another.", name)
        disconnect(cluster_id)

    lookout = Lookout(address, gone)
    lookout.start()
    return lookout


def _import_ray(name: str) -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise EngineMissing(
            f"Cluster {name} runs Ray, and this kernel's environment has no ray ({error}). "
            "Add `ray` to the packages in moorage.yaml, build the project, and restart the notebook."
        ) from error


def _set_credential(attach: Attach) -> None:
    """Ray reads mode and token from the environment once per process; make it read them again for this cluster."""
    if attach.token is None:
        return
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = attach.token
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)
    raylet = importlib.import_module("ray._raylet")
    # Config first: a connection that is still closing would else reload the token under the old mode.
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
