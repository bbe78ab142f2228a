"""Dynamic volumes: local-path-provisioner on the machine, and its StorageClass, the default one.

A folder below the node's work folder for each volume; `local` volumes, for Kubernetes applies `fsGroup` to those and not to
`hostPath` ones. Sizes are not enforced.
"""

import json
from pathlib import Path

from tests.kube.daemons import Daemons
from tests.kube.kubectl import Kubectl
from tests.kube.place import BASE_IMAGE, NODE_NAME, STORAGE_CLASS, Place
from tests.kube.programs import Programs

NAMESPACE = "local-path-storage"  # its helper pods mount the machine's folders: no Pod Security there
PROVISIONER = "moorage.test/local"
SETUP = '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n'
TEARDOWN = '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n'


def publish_storage(kubectl: Kubectl, place: Place) -> None:
    metadata = {"namespace": NAMESPACE}
    files = {"config.json": _config(place), "setup": SETUP, "teardown": TEARDOWN, "helperPod.yaml": _helper()}
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true", "defaultVolumeType": "local"},
        },
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }
    kubectl.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**metadata, "name": "provisioner"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "name": "provisioner"}, "data": files},
        storage_class,
    )


def start_provisioner(daemons: Daemons, place: Place, programs: Programs) -> None:
    folder = place.work / "provisioner"
    folder.mkdir()
    (folder / "config.json").write_text(_config(place))
    (folder / "helper.json").write_text(_helper())
    argv: list[str | Path] = [
        programs.path("local-path-provisioner"), "start",
        "--config", folder / "config.json", "--helper-pod-file", folder / "helper.json", "--helper-image", BASE_IMAGE,
        "--provisioner-name", PROVISIONER, "--namespace", NAMESPACE, "--configmap-name", "provisioner",
        "--service-account-name", "provisioner", "--kubeconfig", place.kubeconfig,
    ]  # fmt: skip
    daemons.start("local-path-provisioner", argv, cwd=folder)


def _config(place: Place) -> str:
    return json.dumps({"nodePathMap": [{"node": NODE_NAME, "paths": [str(place.volumes)]}]})


def _helper() -> str:
    container = {"name": "helper-pod", "image": BASE_IMAGE, "imagePullPolicy": "IfNotPresent"}
    spec = {"priorityClassName": "system-node-critical", "containers": [container], "terminationGracePeriodSeconds": 0}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "helper-pod"}, "spec": spec})
