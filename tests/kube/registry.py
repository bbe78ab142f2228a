"""The local registry: plain HTTP on the node's own address, empty at each start but for the base image."""

import urllib.error
import urllib.request

from tests.kube import images
from tests.kube.daemons import Daemon, Daemons
from tests.kube.place import BASE_IMAGE, REGISTRY, Place

CONFIG = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""


def start_registry(daemons: Daemons, place: Place) -> Daemon:
    config = place.work / "registry.yml"
    config.write_text(CONFIG.format(folder=place.work / "registry", address=REGISTRY))
    return daemons.start("docker-registry", ["docker-registry", "serve", config])


def push_base(daemon: Daemon, place: Place) -> None:
    """Waits for the registry; the base image is there when this returns, and is made if the cache does not hold it."""
    layout = images.base_layout(place)
    daemon.until(lambda: answers(f"http://{REGISTRY}/v2/"), "it answers")
    images.push(layout, "base", BASE_IMAGE)


def answers(url: str) -> bool:
    """With success, asked past any proxy."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
