"""A home so small that it can be filled: a disk of its own, bound to the claim that the service will make."""

from collections.abc import Iterator
from contextlib import contextmanager

from moorage_spawners.launch.namespaces import HOME_CLAIM
from tests.kube.node import Node
from tests.kube.place import NODE_NAME, STORAGE_CLASS

SMALL = "8m"
BALLAST = "ballast"


class SmallHome:
    def __init__(self, node: Node, folder: str) -> None:
        self._node = node
        self._folder = folder

    def fill(self) -> None:
        """Until nothing more fits."""
        file = f"{self._folder}/{BALLAST}"
        self._node.beside_containers("sh", "-c", f"dd if=/dev/zero of={file} bs=4096 2>/dev/null || test -s {file}")

    def empty(self) -> None:
        self._node.beside_containers("rm", f"{self._folder}/{BALLAST}")


@contextmanager
def small_home(node: Node, namespace: str, capacity: str) -> Iterator[SmallHome]:
    """For the user of that namespace, who has no home yet. `capacity`: as the claim will ask for."""
    name = f"small-{namespace}"
    folder = str(node.place.work / name)
    node.beside_containers("mkdir", folder)
    node.beside_containers("mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=1777", "tmpfs", folder)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    spec = {
        "capacity": {"storage": capacity}, "accessModes": ["ReadWriteOnce"], "storageClassName": STORAGE_CLASS,
        "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
        "claimRef": {"namespace": namespace, "name": HOME_CLAIM},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }  # fmt: skip
    node.kubectl.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    try:
        yield SmallHome(node, folder)
    finally:
        node.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--timeout=120s")
        node.kubectl("delete", "persistentvolume", name, "--timeout=60s")
        node.beside_containers("umount", "--lazy", folder)
