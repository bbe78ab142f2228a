"""Waits until every node that a DaemonSet wants has run its pod, which is when it has the images. Run by the pre-puller's hook.

`await_images.py NAMESPACE NAME SECONDS`. Always ends with 0: an install goes on without the images, only the first notebooks wait for them.
The standard library alone, for it runs from a ConfigMap.
"""

import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PAUSE_S = 2.0


def fetch(namespace: str, name: str) -> dict[str, Any]:
    """The DaemonSet, from the API server. Raises OSError while it can't be asked."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    request = urllib.request.Request(
        f"https://{host}:{port}/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"},
    )
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
        return found


def progress(daemon_set: dict[str, Any]) -> tuple[int, int] | None:
    """(nodes that have the images, nodes that are to have them); None while its controller has not looked at it."""
    status = daemon_set.get("status", {})
    if status.get("observedGeneration", 0) < daemon_set["metadata"]["generation"]:
        return None
    return status.get("numberReady", 0), status.get("desiredNumberScheduled", 0)


def wait(ask: Callable[[], dict[str, Any]], *, seconds: float, pause_s: float = PAUSE_S) -> str:
    """Until all nodes are ready or the time is over; a sentence that says which."""
    deadline = time.monotonic() + seconds
    said = "the API server did not answer"
    while True:
        try:
            seen = progress(ask())
        except (OSError, ValueError) as error:
            seen, said = None, f"the API server could not be asked: {error}"
        if seen is not None:
            ready, wanted = seen
            if ready >= wanted:
                return f"All {wanted} nodes have the images."
            said = f"{ready} of {wanted} nodes have the images"
        if time.monotonic() >= deadline:
            return f"After {seconds:.0f} s {said}. The install goes on; the first notebooks on the other nodes wait for their image."
        time.sleep(pause_s)


if __name__ == "__main__":
    print(wait(lambda: fetch(sys.argv[1], sys.argv[2]), seconds=float(sys.argv[3])))  # noqa: T201 - what the job says
