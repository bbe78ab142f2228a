"""The chart, rendered by the real helm. No cluster is asked."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kube.place import Place

CHART = Path(__file__).parents[2] / "helm" / "moorage"
KUBERNETES = "1.36.3"
PROGRAMS = Place.from_environment().cache
Object = dict[str, Any]


def find_helm() -> Path | None:
    """MOORAGE_HELM, else the newest that was built for the tests on Kubernetes."""
    named = os.environ.get("MOORAGE_HELM")
    if named:
        return Path(named)
    built = sorted(PROGRAMS.glob("programs-*/helm"), key=lambda path: path.stat().st_mtime)
    return built[-1] if built else None


class Refused(Exception):
    """Helm would not render; the text is what it said."""


@dataclass(frozen=True)
class Rendered:
    objects: list[Object]

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        found = [each for each in self.of(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind} {name}: {len(found)} of them"
        return found[0]

    def pods(self) -> Iterator[tuple[str, Object]]:
        """(kind/name, template or pod) of everything that is or makes a pod."""
        for each in self.objects:
            title = f"{each['kind']}/{each['metadata']['name']}"
            if each["kind"] == "Pod":
                yield title, each
            elif "template" in each.get("spec", {}):
                yield title, each["spec"]["template"]

    def settings(self, part: str) -> Object:
        """What settings.yaml of "hub" or "service" says of that part."""
        secret = self.one("Secret", f"moorage-{part}-settings")
        document: Object = yaml.safe_load(secret["stringData"]["settings.yaml"])
        assert list(document) == [part]
        found: Object = document[part]
        return found


@dataclass(frozen=True)
class Chart:
    helm: Path
    release: str = "moorage"
    namespace: str = "moorage-system"
    _seen: dict[str, Rendered] = field(default_factory=dict, repr=False)

    def render(self, values: Mapping[str, Any] | None = None) -> Rendered:
        """Everything that an install with these values would send, hooks and tests too. Raises Refused."""
        key = json.dumps(values or {}, sort_keys=True)
        if key not in self._seen:
            text = self._run("template", values or {})
            self._seen[key] = Rendered([each for each in yaml.safe_load_all(text) if each])
        return self._seen[key]

    def notes(self, values: Mapping[str, Any], copy: Path) -> str:
        """What an install tells the admin. Only an install shows it, and needs a cluster; so in `copy`, which is made, it is an object."""
        shutil.copytree(CHART, copy)
        text = (copy / "templates" / "NOTES.txt").read_text()
        shown = (
            '{{ define "notes" }}'
            + text
            + '{{ end }}kind: Notes\nmetadata: {name: notes}\ntext: {{ include "notes" . | toJson }}\n'
        )
        (copy / "templates" / "shown.yaml").write_text(shown)
        document = yaml.safe_load(self._run("template", values, "--show-only", "templates/shown.yaml", folder=copy))
        return str(document["text"])

    def lint(self, values: Mapping[str, Any] | None = None) -> str:
        return self._run("lint", values or {})

    def _run(self, verb: str, values: Mapping[str, Any], *more: str, folder: Path = CHART) -> str:
        what = [str(folder)] if verb == "lint" else [self.release, str(folder)]
        done = subprocess.run(
            [str(self.helm), verb, *what, "--namespace", self.namespace, "--kube-version", KUBERNETES, "--values", "-", *more],
            input=json.dumps(values), capture_output=True, text=True, check=False,
            env={**os.environ, "KUBECONFIG": "/nonexistent", "HELM_NO_PLUGINS": "1"},
        )  # fmt: skip
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout
