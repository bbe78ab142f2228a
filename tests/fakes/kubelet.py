"""A machine of a cluster that runs the pods of builds as processes of this one, with folders of a test in the place of a pod's."""

import asyncio
import base64
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorage_images.pod_build import ENVIRONMENT
from moorage_images.system_build import LAYER
from tests.fakes.kubernetes import FakeKubernetes, Object
from tests.images.places import find_uv

CREDENTIALS = "/etc/moorage/registry/.dockerconfigjson"


@dataclass
class Kubelet:
    """`stuck`: pods stay Pending. `variables`: of this machine, on top of a pod's own. `ran`: "step" of each container that ran."""

    kubernetes: FakeKubernetes
    folder: Path
    wheels: Path
    variables: Mapping[str, str]
    stuck: bool = False
    apt: Path | None = None  # where a pod's apt is found, and `root` below it, which it changes
    ran: list[str] = field(default_factory=list)

    async def __call__(self, pod: Object) -> None:
        if self.stuck:
            return
        name, spec = pod["metadata"]["name"], pod["spec"]
        environment = self.folder / "environment"  # one place for all: what lies there holds its name
        shutil.rmtree(environment, ignore_errors=True)
        environment.mkdir()
        seen: dict[str, list[Object]] = {"initContainerStatuses": [], "containerStatuses": []}
        code = 0
        for kind, containers in (("initContainerStatuses", "initContainers"), ("containerStatuses", "containers")):
            for container in spec[containers]:
                if code:
                    break
                self.ran.append(container["name"])
                seen[kind].append({"name": container["name"], "state": {"running": {}}})
                self._say(pod, "Pending" if kind == "initContainerStatuses" else "Running", seen)
                code, message = await self._run(name, container, environment)
                ended = {"exitCode": code, "message": message, "reason": "Error" if code else "Completed"}
                seen[kind][-1] = {"name": container["name"], "state": {"terminated": ended}}
        self._say(pod, "Failed" if code else "Succeeded", seen)

    def _say(self, pod: Object, phase: str, seen: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        if any(each["metadata"]["name"] == metadata["name"] for each in self.kubernetes.objects()):
            self.kubernetes.put(
                metadata["name"], metadata["namespace"], metadata=metadata, status={"phase": phase, **seen}
            )

    async def _run(self, name: str, container: Object, environment: Path) -> tuple[int, str]:
        scratch = self.folder / f"tmp-{container['name']}"  # each time the same, as /tmp is
        scratch.mkdir()
        try:
            argv = self._argv(name, container, environment, scratch)
            process = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], **self.variables}, limit=1 << 24,
            )  # fmt: skip
            log = self.kubernetes.logs.setdefault((name, container["name"]), [])
            assert process.stdout is not None
            async for line in process.stdout:
                log.append(line.decode().rstrip("\n"))
            result = scratch / "result"
            return await process.wait(), result.read_text() if result.exists() else ""
        finally:
            shutil.rmtree(scratch)

    def _argv(self, name: str, container: Object, environment: Path, scratch: Path) -> list[str]:
        _, *rest = container["command"]
        (scratch / "credentials").write_bytes(self._secret("moorage-push", ".dockerconfigjson"))
        places = {
            CREDENTIALS: scratch / "credentials",
            "/dev/termination-log": scratch / "result",
            "/tmp": scratch,
            str(ENVIRONMENT): environment,
            str(LAYER): self.folder / "layer.tar",
        }
        rest = [str(places.get(part, part)) for part in rest]
        more: dict[str, Path] = {"prefix": environment} if "moorage_images.oci.push" in rest else {}
        if container["name"] == "packages":
            assert self.apt is not None
            (scratch / "task").write_bytes(self._secret(name, "task"))
            more = {
                "task": scratch / "task", "root": self.apt / "root", "layer": self.folder / "layer.tar", "path": self.apt,
                "authorities": scratch / "none", "scratch": scratch, "result": scratch / "result",
            }  # fmt: skip
        elif container["name"] != "push":
            (scratch / "task").write_bytes(self._secret(name, "task"))
            more = {
                "task": scratch / "task", "folder": environment, "uv": find_uv(), "wheels": self.wheels, "scratch": scratch,
                "result": scratch / "result",
            }  # fmt: skip
        return [sys.executable, *rest, *(part for key, place in more.items() for part in (f"--{key}", str(place)))]

    def _secret(self, name: str, key: str) -> bytes:
        """Empty when there is none."""
        found = [each for path, each in self.kubernetes.made.items() if path.endswith(f"/secrets/{name}")]
        return base64.b64decode(found[0]["data"][key]) if found else b""
