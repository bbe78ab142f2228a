"""The node's programs that are built from Go modules, once, into the cache. Sources, versions and sums: `programs/` and here."""

from dataclasses import dataclass
from pathlib import Path

from tests.kube.cache import built_once, digest
from tests.kube.commands import find, run
from tests.kube.errors import MissingPart
from tests.kube.place import PROGRAM_SOURCES, Place

KUBERNETES = "1.36.3"
# Each is built by itself, at the versions that its own go.mod and go.sum pin.
INSTALLED = {
    "github.com/containerd/containerd/v2": ("v2.4.2", ("cmd/containerd", "cmd/containerd-shim-runc-v2", "cmd/ctr")),
    "helm.sh/helm/v3": ("v3.22.0", ("cmd/helm",)),
    "github.com/coredns/coredns": ("v1.15.0", ("",)),
    "github.com/rancher/local-path-provisioner": ("v0.0.30", ("",)),
}
FLAGS = ("-trimpath",)
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
POLITELY = ("nice", "-n", "5")  # minutes of both cores: whoever works on this machine should not notice
STRIPPED = "-s -w"


@dataclass(frozen=True)
class Programs:
    """The built programs, in one folder. None is called `node`: that name is Node.js's on many a search path."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def kubernetes(self, part: str) -> list[str | Path]:
        """The start of a command line: kube-apiserver, kubelet, kubectl, ..."""
        return [self.folder / "kubernetes", part]


def ensure_programs(place: Place) -> Programs:
    """Builds what the cache does not hold: minutes the first time. Raises MissingPart without Go, NodeError when a build fails."""
    sources = [
        path for pattern in ("go.mod", "go.sum", "*.go", "*/*.go") for path in sorted(PROGRAM_SOURCES.glob(pattern))
    ]
    versions = [f"{module}@{version}/{','.join(folders)}" for module, (version, folders) in INSTALLED.items()]
    key = digest([*sources, *versions, *FLAGS, STRIPPED, KUBERNETES])
    return Programs(built_once(place.cache, "programs", key, _build))


def _build(folder: Path) -> None:
    go = find("go")
    if go is None:
        raise MissingPart(
            "Go",
            "Install Go 1.26 or later (Kubernetes is built from its modules), or bring a cache that holds the programs.",
        )
    _build_kubernetes(go, folder)
    for module, (version, folders) in INSTALLED.items():
        packages = [f"{module}/{sub}".rstrip("/") + f"@{version}" for sub in folders]
        run(
            [*POLITELY, go, "install", *FLAGS, "-ldflags", STRIPPED, *packages],
            env={**BUILD_ENVIRONMENT, "GOBIN": str(folder)},
        )


def _build_kubernetes(go: str, folder: Path) -> None:
    # Without a stamp the server calls itself v0.0.0-master+$Format:%H$, on which clients that read versions trip.
    stamp = " ".join(
        f"-X k8s.io/{where}/version.gitVersion=v{KUBERNETES}" for where in ("component-base", "client-go/pkg")
    )
    for name, package, flags in (("kubernetes", ".", f"{STRIPPED} {stamp}"), ("pause", "./pause", STRIPPED)):
        argv: list[str | Path] = [
            *POLITELY,
            go,
            "build",
            "-mod=readonly",
            *FLAGS,
            "-ldflags",
            flags,
            "-o",
            folder / name,
            package,
        ]
        run(argv, env=BUILD_ENVIRONMENT, cwd=PROGRAM_SOURCES)
