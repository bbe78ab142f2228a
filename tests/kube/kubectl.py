"""kubectl as its caller sees it: manifests in, objects out, and the server's own words when it refuses."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kube.commands import run
from tests.kube.errors import NodeError

Object = dict[str, Any]
Objects = list[Object]


class KubectlRefused(NodeError):
    """kubectl ended with an error. `said` is what it wrote."""

    def __init__(self, argv: Sequence[str], said: str) -> None:
        super().__init__(f"kubectl {' '.join(argv)}: {said}")
        self.said = said


class Kubectl:
    def __init__(self, command: Sequence[str | Path], kubeconfig: Path, cache: Path) -> None:
        self._command = [*command, f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]

    def try_run(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Whatever its status."""
        return run([*self._command, *argv], stdin=stdin, check=False, timeout=300)

    def __call__(self, *argv: str, stdin: str | None = None) -> str:
        """What it wrote. Raises KubectlRefused."""
        done = self.try_run(*argv, stdin=stdin)
        if done.returncode != 0:
            raise KubectlRefused(argv, done.stderr.strip() or done.stdout.strip())
        return done.stdout

    @contextmanager
    def running(self, *argv: str) -> Iterator[None]:
        """While it goes on, as one does that leads somewhere or follows a log."""
        null = subprocess.DEVNULL
        with subprocess.Popen([*self._command, *argv], stdin=null, stdout=null, stderr=null) as process:
            try:
                yield
            finally:
                process.terminate()

    def apply(self, *manifests: Object) -> None:
        """Makes or changes all of them. Raises KubectlRefused with the first refusal."""
        whole = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=whole)

    def get(self, kind: str, name: str, namespace: str = "default") -> Object | None:
        """None when there is no such object."""
        said = self("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(said) if said.strip() else None

    def list(self, kind: str, namespace: str = "default") -> list[Object]:
        items: list[Object] = json.loads(self("get", kind, "-n", namespace, "-o", "json"))["items"]
        return items

    def list_all(self, kind: str, labels: str) -> Objects:
        """Those with these labels, in all namespaces."""
        items: Objects = json.loads(self("get", kind, "-A", "-l", labels, "-o", "json"))["items"]
        return items
