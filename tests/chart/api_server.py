"""A real API server on etcd, both on the loopback address: it knows objects, rights and admission. Nothing runs pods."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.chart.rendering import PROGRAMS, Object
from tests.ports import free_port
from tests.waiting import eventually

COLLECTIONS = {
    "Namespace": "api/v1/namespaces",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}
ACCESS = "apis/authorization.k8s.io/v1/subjectaccessreviews"


def missing() -> str | None:
    """Which part is not there; None when all are."""
    if shutil.which("etcd") is None:
        return "etcd (Debian: etcd-server)"
    return None if find_kubernetes() else "the kubernetes program (MOORAGE_KUBERNETES)"


def find_kubernetes() -> Path | None:
    """The program that is Kubernetes' own, by its first argument: MOORAGE_KUBERNETES, else the newest built for the tests."""
    named = os.environ.get("MOORAGE_KUBERNETES")
    if named:
        return Path(named)
    built = sorted(PROGRAMS.glob("programs-*/kubernetes"), key=lambda path: path.stat().st_mtime)
    return built[-1] if built else None


@dataclass(frozen=True)
class ApiServer:
    url: str
    token: str
    kubeconfig: Path

    def ask(self, method: str, path: str, *, account: str | None = None, body: Object | None = None) -> httpx.Response:
        """As an admin of the cluster, or as the ServiceAccount `namespace:name`."""
        headers = [("Authorization", f"Bearer {self.token}")]
        if account is not None:
            groups = (
                "system:authenticated",
                "system:serviceaccounts",
                f"system:serviceaccounts:{account.partition(':')[0]}",
            )
            headers += [
                ("Impersonate-User", f"system:serviceaccount:{account}"),
                *(("Impersonate-Group", each) for each in groups),
            ]
        return httpx.request(
            method, f"{self.url}/{path}", headers=headers, json=body, verify=False, timeout=30, trust_env=False
        )

    def create(self, made: Object, *, account: str | None = None) -> httpx.Response:
        path = COLLECTIONS[made["kind"]].format(namespace=made["metadata"].get("namespace"))
        return self.ask("POST", path, account=account, body=made)

    def may(self, account: str, verb: str, resource: str, namespace: str = "") -> bool:
        """Whether RBAC lets the account do it; everywhere, without a namespace."""
        group, _, name = resource.rpartition("/")
        attributes = {"verb": verb, "group": group, "resource": name, "namespace": namespace}
        spec = {"user": f"system:serviceaccount:{account}", "resourceAttributes": attributes}
        answer = self.ask(
            "POST", ACCESS, body={"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        )
        answer.raise_for_status()
        return bool(answer.json()["status"]["allowed"])


@contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """From an empty etcd; everything ends with it."""
    kubernetes = find_kubernetes()
    assert kubernetes is not None
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kind, layout, bare = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "accounts.key").write_bytes(key.private_bytes(kind, layout, bare))
    token, ports = secrets.token_hex(16), [free_port() for _ in range(3)]
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    etcd = f"http://127.0.0.1:{ports[0]}"
    server = ApiServer(
        f"https://127.0.0.1:{ports[2]}", token, _kubeconfig(folder, f"https://127.0.0.1:{ports[2]}", token)
    )
    programs: list[list[str]] = [
        [
            "etcd", "--unsafe-no-fsync", f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{ports[1]}",
        ],
        [
            str(kubernetes), "kube-apiserver", f"--etcd-servers={etcd}", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={ports[2]}", f"--cert-dir={folder / 'certificates'}", "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}", "--service-account-issuer=https://moorage.test",
            f"--service-account-key-file={folder / 'accounts.key'}", f"--service-account-signing-key-file={folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
        ],
    ]  # fmt: skip
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("wb") as log:
            for argv in programs:
                processes.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, cwd=folder))
        eventually(lambda: _ready(server, processes), within=120, what=f"the API server ({folder / 'log'})")
        yield server
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _ready(server: ApiServer, processes: list[subprocess.Popen[bytes]]) -> bool:
    assert [each.poll() for each in processes] == [None, None], "a program ended"
    with suppress(httpx.TransportError):
        there = server.ask("GET", "readyz").is_success
        return there and server.ask("GET", "api/v1/namespaces/default").is_success
    return False


def _kubeconfig(folder: Path, url: str, token: str) -> Path:
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
        "current-context": "tests",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    return path
