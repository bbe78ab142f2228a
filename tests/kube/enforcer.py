"""Keeps the policies' table as the API server's objects want it: `python -m tests.kube.enforcer KUBECONFIG`, until it is ended.

One thread for each kind lists and watches; every change renders the table anew, and nft replaces it at once.
"""

import http.client
import logging
import sys
import threading
import time
from pathlib import Path

from tests.kube import policies
from tests.kube.api import Api, Object, Refused
from tests.kube.commands import run
from tests.kube.errors import NodeError

KINDS = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}
AGAIN_AFTER_S = 0.2
log = logging.getLogger("enforcer")


class Mirror:
    """The objects of all kinds as they are now."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._objects: dict[str, dict[str, Object]] = {}
        self.changed = threading.Event()

    def follow(self, kind: str) -> None:
        """Never returns. Whatever goes wrong, it lists again."""
        path = KINDS[kind]
        while True:
            try:
                objects, version = self._api.list(path)
                with self._lock:
                    self._objects[kind] = {each["metadata"]["uid"]: each for each in objects}
                self.changed.set()
                for event in self._api.watch(path, version):
                    self._take(kind, event)
            except (OSError, Refused, http.client.HTTPException, ValueError) as error:
                log.warning("%s: %s", kind, error)
                time.sleep(AGAIN_AFTER_S)

    def table(self) -> str | None:
        """None until every kind has been listed: a table without all of them would let through what is forbidden."""
        with self._lock:
            if self._objects.keys() != KINDS.keys():
                return None
            return policies.render(*(list(self._objects[kind].values()) for kind in KINDS))

    def _take(self, kind: str, event: Object) -> None:
        identity = event["object"]["metadata"]["uid"]
        with self._lock:
            if event["type"] == "DELETED":
                self._objects[kind].pop(identity, None)
            else:
                self._objects[kind][identity] = event["object"]
        self.changed.set()


def enforce(mirror: Mirror) -> None:
    """Never returns."""
    applied = None
    while True:
        mirror.changed.wait()
        mirror.changed.clear()
        table = mirror.table()
        if table is None or table == applied:
            continue
        try:
            run(["nft", "-f", "-"], stdin=table)
            applied = table
        except NodeError:
            log.exception("the table was refused:\n%s", table)


def main(kubeconfig: str) -> None:
    logging.basicConfig(format="%(asctime)s %(message)s")
    mirror = Mirror(Api(Path(kubeconfig)))
    for kind in KINDS:
        threading.Thread(target=mirror.follow, args=(kind,), daemon=True).start()
    enforce(mirror)


if __name__ == "__main__":
    main(sys.argv[1])
