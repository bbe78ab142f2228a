"""Moorage in a kernel: size, start and attach clusters from a notebook.

    import moorage
    cluster = moorage.sizing("ray")   # shows the sizing widget; later: moorage.attach()
    cluster.connect()                 # a Ray driver, or a Dask client

Everything is imported when first used: `import moorage` is quick, and needs neither ray nor distributed nor ipywidgets.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moorage.client import Client
    from moorage.cluster import Cluster, attach, clusters
    from moorage.errors import LimitRefused, MoorageError
    from moorage.widget import Sizing, sizing

__version__ = "0.2.0"

__all__ = ["Client", "Cluster", "LimitRefused", "MoorageError", "Sizing", "attach", "clusters", "sizing"]

_HOMES = {
    "Client": "moorage.client",
    "Cluster": "moorage.cluster",
    "attach": "moorage.cluster",
    "clusters": "moorage.cluster",
    "LimitRefused": "moorage.errors",
    "MoorageError": "moorage.errors",
    "Sizing": "moorage.widget",
    "sizing": "moorage.widget",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'moorage' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def load_ipython_extension(shell: Any) -> None:
    """For `%load_ext moorage`, or `--IPKernelApp.extensions=moorage` on a kernel's command line."""
    from moorage import kernel

    kernel.install(shell)
