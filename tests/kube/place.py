"""Where the node lives: its addresses, its ports, and its folders. One node for each machine, so all of it is fixed.

Everything on disk is below one work folder, which `down` removes. What is built once is in the cache, outside any checkout.
"""

import os
from dataclasses import dataclass
from pathlib import Path

NODE_NAME = "node-1"
BRIDGE = "moor0"  # carries the node's own address: nothing depends on the machine's, nothing outside it reaches ours
POD_BRIDGE = "moorpods0"
ADDRESS = "10.200.0.1"
SERVICES = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
PODS = "10.244.0.0/24"

API_PORT = 6443
REGISTRY_PORT = 5000
ETCD_PORT, ETCD_PEER_PORT = 12379, 12380
DNS_READY_PORT = 8181

REGISTRY = f"{ADDRESS}:{REGISTRY_PORT}"
PAUSE_IMAGE = "localhost/pause:1"
BASE_IMAGE = f"{REGISTRY}/base:1"
STORAGE_CLASS = "local"

CGROUP = "moorage-kube"
MARK = "MOORAGE_KUBE_NODE"  # in the environment of all that the node starts, with the work folder: how what is left is known
POLICY_TABLE = "moorage_policies"
COMMENT = "moorage-kube"  # on each iptables rule of ours
CNI_NETWORK = "moorage"  # the bridge plugin writes it on its rules

CHECKOUT = Path(__file__).parents[2]
PROGRAM_SOURCES = Path(__file__).parent / "programs"


def _cache() -> Path:
    default = Path("/var/cache/moorage-kube") if os.geteuid() == 0 else Path.home() / ".cache" / "moorage-kube"
    return Path(os.environ.get("MOORAGE_KUBE_CACHE") or default)


def _kept_logs() -> Path | None:
    folder = os.environ.get("MOORAGE_KUBE_LOGS")
    return Path(folder).absolute() if folder else None


@dataclass(frozen=True)
class Place:
    """Folders. `kept_logs` gets the parts' logs when the node goes down, if it is set."""

    work: Path
    cache: Path
    kept_logs: Path | None = None

    @classmethod
    def from_environment(cls) -> "Place":
        """MOORAGE_KUBE_CACHE: what is built once. MOORAGE_KUBE_LOGS: where logs are kept after the node is down."""
        return cls(work=Path("/var/tmp/moorage-kube"), cache=_cache(), kept_logs=_kept_logs())

    @property
    def lock(self) -> Path:
        return self.work.with_name(self.work.name + ".lock")

    @property
    def journal(self) -> Path:
        return self.work / "journal.jsonl"

    @property
    def kept(self) -> Path:
        """Exists while a person keeps the node up: nobody else takes it down."""
        return self.work / "kept"

    @property
    def logs(self) -> Path:
        return self.work / "logs"

    @property
    def pki(self) -> Path:
        return self.work / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.kubeconfig_of("admin")

    def kubeconfig_of(self, who: str) -> Path:
        return self.work / "kubeconfig" / f"{who}.json"

    @property
    def containerd_socket(self) -> Path:
        return self.work / "containerd" / "containerd.sock"

    @property
    def registries(self) -> Path:
        """`<host:port>/hosts.toml` below it is read at each pull: a test may add registries to a running node."""
        return self.work / "registries"

    @property
    def volumes(self) -> Path:
        return self.work / "volumes"
