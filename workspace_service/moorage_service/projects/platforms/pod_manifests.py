"""The pods of a build, as manifests. All but one pass Pod Security `restricted` and write in scratch folders alone; none holds a token
of the cluster.

One resolves. One builds, by three containers that run one after another on one folder: `install` fills it and `try` starts a kernel in
it, both programs of the notebook image; `push`, a program of the service's image and the only one with credentials, reads it, and runs
nothing of it. The one that installs Debian packages does so in the same way, but as root of the notebook image, in a namespace of its own.
"""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from moorage_images.network import network_environment, without_credentials
from moorage_images.oci.image import own_architecture
from moorage_images.oci.reference import Reference
from moorage_images.pod_build import ENVIRONMENT, RESULT
from moorage_images.system_build import FOLDER as SYSTEM
from moorage_images.system_build import LAYER
from moorage_service.projects.platforms import namespace
from moorage_spawners.launch import pod_parts
from moorage_spawners.launch.kubernetes_settings import KubernetesSettings
from moorage_spawners.launch.labels import KIND, MANAGED_BY, MANAGER, PREFIX, PROJECT
from moorage_spawners.launch.names import label_value

BUILD = f"{PREFIX}build"
SELECTOR = f"{MANAGED_BY}={MANAGER},{KIND}=build,{BUILD}"  # of all that a build leaves; none of it is a workload's
NOTEBOOK_PYTHON = "/opt/moorage/server/bin/python"
SERVICE_PYTHON = "/opt/moorage/control/bin/python"
_INPUTS = "/etc/moorage/build"
_CREDENTIALS = "/etc/moorage/registry"
_AUTHORITIES = f"{_INPUTS}/authorities.crt"
_ENVIRONMENT_VOLUME, _SYSTEM_VOLUME = "environment", "system"
# What dpkg and packages' own scripts need to own files and make users; all of it is within Pod Security `baseline`.
_ROOT: Mapping[str, Any] = {
    "runAsUser": 0,
    "runAsGroup": 0,
    "runAsNonRoot": False,
    "allowPrivilegeEscalation": False,
    "capabilities": {
        "drop": ["ALL"],
        "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETUID", "SYS_CHROOT"],
    },
}


@dataclass(frozen=True, kw_only=True)
class BuildPod:
    """What the pods of one build have in common. `image`: the notebook's, by digest; `variables`: how the index is reached."""

    build_id: str
    project: str
    image: Reference
    settings: KubernetesSettings
    time_s: float
    variables: Mapping[str, str]

    def pod(self, step: Literal["describe", "resolve"]) -> dict[str, Any]:
        """One that tells what the image has, or what its resolver makes of the task."""
        return self._pod(step, [], [self._of_notebook(step)], [])

    def building(
        self, environment: str, python: str, target: Reference, *, plain_http: Sequence[str]
    ) -> dict[str, Any]:
        """One that makes the environment of that digest, and puts it into the registry as `target`."""
        first = [self._of_notebook("install", writes=True), self._of_notebook("try", mounts=True)]
        argv = [
            "moorage_images.oci.push",
            "--tree",
            str(ENVIRONMENT),
            "--environment",
            environment,
            "--interpreter",
            python,
        ]
        mount = _mount(_ENVIRONMENT_VOLUME, str(ENVIRONMENT), writes=False)
        push, volumes = self._push(argv, mount, target, plain_http)
        return self._pod("build", first, [push], [_scratch(_ENVIRONMENT_VOLUME, self.settings), *volumes])

    def installing(self, packages: Sequence[str], target: Reference, *, plain_http: Sequence[str]) -> dict[str, Any]:
        """One that installs Debian packages in the notebook image, as its root, and puts what comes of it into the registry as `target`.

        It passes Pod Security `baseline`, and runs in the namespace that an admin has named for it.
        """
        argv = [NOTEBOOK_PYTHON, "-I", "-m", "moorage_images.system_build"]
        mount = _mount(_SYSTEM_VOLUME, str(SYSTEM), writes=True)
        first = self._container("packages", str(self.image), argv, [mount], without_credentials(self.variables))
        first["securityContext"] = {**_ROOT}
        argv = ["moorage_images.oci.push_system", "--layer", str(LAYER), "--packages", *packages]
        push, volumes = self._push(argv, {**mount, "readOnly": True}, target, plain_http)
        pod = self._pod("system", [first], [push], [_scratch(_SYSTEM_VOLUME, self.settings), *volumes])
        system = self.settings.builds.system
        pod["metadata"]["namespace"] = system.namespace
        if system.user_namespace:
            pod["spec"]["hostUsers"] = False
        return pod

    def _push(
        self, argv: Sequence[str], mount: dict[str, Any], target: Reference, plain_http: Sequence[str]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The container that pushes what lies at `mount`, and the volumes of its own. `argv`: its module, and what that is told."""
        argv = [
            SERVICE_PYTHON,
            "-I",
            "-m",
            *argv,
            "--base",
            str(self.image),
            "--target",
            str(target),
            "--result",
            str(RESULT),
        ]
        argv += ["--architecture", own_architecture(), "--scratch", "/tmp"]  # noqa: S108 - the pod's own
        argv += [part for host in plain_http for part in ("--plain-http", host)]
        mounts, volumes = [mount], []
        if self.settings.registry.push_secret:
            argv += ["--credentials", f"{_CREDENTIALS}/.dockerconfigjson"]
            mounts.append(_mount("credentials", _CREDENTIALS, writes=False))
            volumes.append({"name": "credentials", "secret": {"secretName": namespace.PUSH}})
        # It runs nothing of what was built, and a proxy's name and password are its only way to a registry out there.
        variables = network_environment(self.settings.builds.env)
        return self._container("push", self.settings.builds.image, argv, mounts, variables), volumes

    def inputs(self, pod: Mapping[str, Any], task: bytes) -> dict[str, Any]:
        """The Secret that the pod has mounted: not for what is secret in it, but for its size."""
        content = {"task": task}
        if self.settings.builds.ca_certificates:
            content["authorities.crt"] = self.settings.builds.ca_certificates.encode()
        metadata = {key: pod["metadata"][key] for key in ("name", "namespace", "labels")}
        data = {name: base64.b64encode(each).decode() for name, each in content.items()}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}

    def _of_notebook(self, step: str, *, writes: bool = False, mounts: bool = False) -> dict[str, Any]:
        places = [_mount(_ENVIRONMENT_VOLUME, str(ENVIRONMENT), writes=writes)] if writes or mounts else []
        argv = [NOTEBOOK_PYTHON, "-I", "-m", "moorage_images.pod_build", step]
        # What runs packages' code must not be able to read what opens the package index: not even in another process of it.
        return self._container(step, str(self.image), argv, places, {} if step == "try" else self.variables)

    def _container(
        self, name: str, image: str, argv: Sequence[str], mounts: Sequence[dict[str, Any]], more: Mapping[str, str]
    ) -> dict[str, Any]:
        authorities = {"SSL_CERT_FILE": _AUTHORITIES} if self.settings.builds.ca_certificates else {}
        variables = {"HOME": "/tmp", "LANG": "C.UTF-8", **authorities, **more}  # noqa: S108
        variables["NVIDIA_VISIBLE_DEVICES"] = "void"  # else an image made for GPUs would be shown all of its machine
        return {
            "name": name,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": [pod_parts.literal(part) for part in argv],
            "env": pod_parts.environment(variables, None, {}),
            "resources": self._resources(),
            "securityContext": dict(pod_parts.CONTAINER_SECURITY),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                _mount(f"tmp-{name}", "/tmp", writes=True),  # noqa: S108
                _mount("inputs", _INPUTS, writes=False),
                *mounts,
            ],
        }

    def _resources(self) -> dict[str, Any]:
        builds = self.settings.builds
        amounts = {"cpu": f"{round(builds.cpu * 1000)}m", "memory": builds.memory}
        return {
            "requests": {
                **amounts,
                "ephemeral-storage": "1Gi",
            },  # what the scheduler counts; more is taken as it is there
            "limits": {"memory": builds.memory, "ephemeral-storage": builds.disk},
        }

    def _pod(
        self, step: str, first: list[dict[str, Any]], then: list[dict[str, Any]], volumes: list[dict[str, Any]]
    ) -> dict[str, Any]:
        settings, builds = self.settings, self.settings.builds
        own = f"{self.build_id}-{step}-{secrets.token_hex(3)}"  # the same build may be begun again while its pods end
        body: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "activeDeadlineSeconds": max(1, round(self.time_s)),
            "securityContext": pod_parts.pod_security(settings.pods.uid, settings.pods.uid),
            "nodeSelector": {"kubernetes.io/arch": own_architecture(), **builds.node_selector},
            "tolerations": [dict(each) for each in builds.tolerations],
            "initContainers": first,
            "containers": then,
            "volumes": [
                {"name": "inputs", "secret": {"secretName": own}},
                *(_scratch(f"tmp-{each['name']}", settings) for each in (*first, *then)),
                *volumes,
            ],
        }
        if settings.registry.pull_secret:
            body["imagePullSecrets"] = [{"name": namespace.PULL}]
        labels = {
            MANAGED_BY: MANAGER,
            KIND: "build",
            BUILD: label_value(self.build_id),
            PROJECT: label_value(self.project),
        }
        metadata = {"name": own, "namespace": namespace.name(settings), "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def _scratch(volume: str, settings: KubernetesSettings) -> dict[str, Any]:
    return {"name": volume, "emptyDir": {"sizeLimit": settings.builds.disk}}


def _mount(volume: str, place: str, *, writes: bool) -> dict[str, Any]:
    return {"name": volume, "mountPath": place} if writes else {"name": volume, "mountPath": place, "readOnly": True}
