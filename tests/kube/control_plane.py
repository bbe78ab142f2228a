"""etcd, the API server, the controllers and the scheduler."""

import json
from pathlib import Path

from tests.kube.api import Api
from tests.kube.daemons import Daemons
from tests.kube.place import ADDRESS, API_PORT, ETCD_PEER_PORT, ETCD_PORT, SERVICES, Place
from tests.kube.programs import Programs

ETCD_URL = f"http://127.0.0.1:{ETCD_PORT}"
ETCD_PEER_URL = f"http://127.0.0.1:{ETCD_PEER_PORT}"
CLIENT_PATIENCE = 60.0


def start_etcd(daemons: Daemons, place: Place) -> None:
    """On the loopback address; it never waits for the disk, for its data lasts no longer than the node."""
    argv: list[str | Path] = [
        "etcd", "--data-dir", place.work / "etcd", "--unsafe-no-fsync", "--log-level=warn",
        "--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL,
        "--listen-peer-urls", ETCD_PEER_URL, "--initial-advertise-peer-urls", ETCD_PEER_URL,
        "--initial-cluster", f"default={ETCD_PEER_URL}",
    ]  # fmt: skip
    daemons.start("etcd", argv)


def start_api_server(daemons: Daemons, place: Place, programs: Programs) -> None:
    """Returns when it is ready. Its endpoint reconciler stays on: without it clients in pods have no API server to reach."""
    pki = place.pki
    argv = [
        *programs.kubernetes("kube-apiserver"),
        f"--etcd-servers={ETCD_URL}",
        f"--bind-address={ADDRESS}",
        f"--advertise-address={ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/serving.crt",
        f"--tls-private-key-file={pki}/serving.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={SERVICES}",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    daemon = daemons.start("kube-apiserver", argv)
    api = Api(place.kubeconfig)
    daemon.until(lambda: api.answers("/readyz"), "it is ready", within=CLIENT_PATIENCE)


def start_controllers(daemons: Daemons, place: Place, programs: Programs, *flags: str) -> None:
    argv = [
        *programs.kubernetes("kube-controller-manager"),
        f"--kubeconfig={place.kubeconfig_of('controller-manager')}",
        "--bind-address=127.0.0.1",
        f"--root-ca-file={place.pki}/ca.crt",
        f"--service-account-private-key-file={place.pki}/service-accounts.key",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        *flags,
    ]
    daemons.start("kube-controller-manager", argv)


def start_scheduler(daemons: Daemons, place: Place, programs: Programs) -> None:
    config = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": str(place.kubeconfig_of("scheduler")), "qps": 200, "burst": 400},
    }
    path = place.work / "scheduler.json"
    path.write_text(json.dumps(config))
    daemons.start(
        "kube-scheduler", [*programs.kubernetes("kube-scheduler"), f"--config={path}", "--bind-address=127.0.0.1"]
    )
