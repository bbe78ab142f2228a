"""A real node of Kubernetes on this machine: `up` brings it up in seconds once its parts are in the cache, `down` takes all of it away.

One for each machine. Its parts are the files beside this one; what must be set, and why, is said where it is set.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from bootstrap.container_images import make_images
from bootstrap.places import ROOT, prepare
from tests.kube import containers, control_plane, dns, images, kubelet, machine, pki, registry, remains, storage
from tests.kube.api import Api, Object
from tests.kube.commands import run
from tests.kube.daemons import Daemons
from tests.kube.errors import NodeError
from tests.kube.journal import Journal
from tests.kube.kubectl import Kubectl
from tests.kube.packages import ensure_packages
from tests.kube.place import ADDRESS, BASE_IMAGE, CHECKOUT, DNS_READY_PORT, NODE_NAME, REGISTRY, Place
from tests.kube.programs import Programs, ensure_programs


class Node:
    """`with Node() as node: node.kubectl(...)`. Pods pull `base_image`, and what is pushed to `registry`.

    `took` says how many seconds each step of the last `up` did.
    """

    name = NODE_NAME
    address = ADDRESS
    registry = REGISTRY
    base_image = BASE_IMAGE

    def __init__(self, place: Place | None = None) -> None:
        self.place = place or Place.from_environment()
        self.took: dict[str, float] = {}
        self._programs: Programs | None = None
        self._lock: IO[str] | None = None
        self._daemons = self._new_daemons()

    @property
    def kubeconfig(self) -> Path:
        """Of an admin of the cluster."""
        return self.place.kubeconfig

    @property
    def programs(self) -> Programs:
        """helm, and kubectl as `kubernetes kubectl`."""
        if self._programs is None:
            self._programs = ensure_programs(self.place)
        return self._programs

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.programs.kubernetes("kubectl"), self.kubeconfig, self.place.work / "kubectl-cache")

    def push_own_images(self) -> dict[str, str]:
        """Moorage's own images as `make images` builds them of this checkout, in the node's registry: image -> how pods name it."""
        made = make_images(prepare(ROOT / ".cache"), base=f"oci:{images.base_layout(self.place)}:base")
        names = {name: f"{self.registry}/moorage/{name}:test" for name in made}
        for name, layout in made.items():
            images.push(layout, name, names[name])
        return names

    def up(self) -> None:
        """Ready for pods, names, volumes and policies when it returns. What an earlier one left here is removed before.

        Raises MissingPart where this machine can't, NodeError when a part fails or a person keeps a node here; nothing stays behind then.
        """
        self.took = {}
        with self._step("programs"):
            ensure_packages()
            self._programs = ensure_programs(self.place)
        self._take_lock()
        try:
            if self.place.kept.exists():
                raise NodeError(
                    "A node is kept up on this machine by hand. Take it down first: python -m tests.kube down"
                )
            with self._step("what an earlier one left"):
                remains.remove(self.place)
            try:
                self._bring_up()
            except BaseException:
                self._remove()
                raise
        except BaseException:
            self._free_lock()
            raise

    def keep(self) -> None:
        """The node stays when this process ends, until somebody calls `down`, in whatever process."""
        self.place.kept.touch()
        self._free_lock()

    def down(self) -> None:
        """Nothing of the node is left when it returns, its data included. Right for one that is half up, or not there."""
        if self._lock is None:
            self._take_lock()
        try:
            self._remove()
        finally:
            self._free_lock()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def stop(self, part: str) -> None:
        """One of the node's own processes, such as "kubelet"."""
        self._daemons[part].end()

    def start_registry(self) -> None:
        """After it was stopped; with what it held."""
        daemon = registry.start_registry(self._daemons, self.place)
        daemon.until(lambda: registry.answers(f"http://{REGISTRY}/v2/"), "it answers")

    def start_kubelet(self) -> None:
        """After it was stopped; the node is Ready when it returns. Pretend GPUs are gone."""
        kubelet.start_kubelet(self._daemons, self.place, self.programs)
        api = Api(self.kubeconfig)
        self._daemons["kubelet"].until(lambda: _is_ready(api.find(f"/api/v1/nodes/{NODE_NAME}")), "the node is Ready")

    def restart_controllers(self, *flags: str) -> None:
        """`flags`: further ones of the controller manager's own."""
        self._daemons["kube-controller-manager"].end()
        control_plane.start_controllers(self._daemons, self.place, self.programs, *flags)

    def image_names(self, repository: str) -> list[str]:
        """Under which the machine has images of it."""
        return containers.image_names(self.place, self.programs, repository)

    def rename_image(self, name: str, other: str) -> None:
        """To whoever asks for it by its former name it is not on the machine."""
        containers.rename_image(self.place, self.programs, name, other)

    def beside_containers(self, *argv: str) -> None:
        """Runs a program where kubelet and containers see what it mounts. Raises NodeError."""
        run(["nsenter", f"--target={self._daemons['containerd'].pid}", "--mount", "--", *argv])

    def _bring_up(self) -> None:
        place, programs, daemons = self.place, self.programs, self._daemons
        with self._step("machine and certificates"):
            self._prepare_machine()
        with ThreadPoolExecutor(max_workers=2) as beside:
            with self._step("control plane"):
                control_plane.start_etcd(daemons, place)
                base = beside.submit(self._serve_base)
                runtime = beside.submit(self._start_containers)
                control_plane.start_api_server(daemons, place, programs)
            with self._step("node"):
                control_plane.start_controllers(daemons, place, programs)
                control_plane.start_scheduler(daemons, place, programs)
                runtime.result()
                kubelet.start_kubelet(daemons, place, programs)
                kubelet.start_proxy(daemons, place, programs)
                self._start_services()
                self._await_node()
            with self._step("base image"):
                base.result()

    def _prepare_machine(self) -> None:
        journal = Journal(self.place.journal)
        self.place.work.mkdir(parents=True, mode=0o755)
        pki.make(self.place)
        machine.add_rules(journal)
        machine.change_settings(journal)
        machine.make_bridge()
        machine.make_cgroup()

    def _serve_base(self) -> None:
        registry.push_base(registry.start_registry(self._daemons, self.place), self.place)

    def _start_containers(self) -> None:
        containers.start_containerd(self._daemons, self.place, self.programs)
        containers.import_pause(self.place, self.programs)

    def _start_services(self) -> None:
        """Names, volumes and policies."""
        dns.publish_dns(self.kubectl)
        storage.publish_storage(self.kubectl, self.place)
        dns.start_dns(self._daemons, self.place, self.programs)
        storage.start_provisioner(self._daemons, self.place, self.programs)
        argv = [sys.executable, "-m", "tests.kube.enforcer", str(self.kubeconfig)]
        self._daemons.start("enforcer", argv, cwd=CHECKOUT)

    def _await_node(self) -> None:
        api = Api(self.kubeconfig)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        ready = f"http://{ADDRESS}:{DNS_READY_PORT}/ready"
        self._daemons["kube-controller-manager"].until(lambda: api.answers(account), "namespaces have accounts")
        self._daemons["kubelet"].until(lambda: _is_ready(api.find(f"/api/v1/nodes/{NODE_NAME}")), "the node is Ready")
        self._daemons["coredns"].until(lambda: registry.answers(ready), "it answers")
        self._daemons["enforcer"].until(machine.policies_are_enforced, "its table is there")

    def _remove(self) -> None:
        remains.remove(self.place)
        self._daemons.reap()
        self._daemons = self._new_daemons()

    def _new_daemons(self) -> Daemons:
        return Daemons(self.place, Journal(self.place.journal))

    def _take_lock(self) -> None:
        """Held by whoever has the node up; the kernel frees it if they are killed."""
        self.place.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = self.place.lock.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            lock.seek(0)
            raise NodeError(
                f"Process {lock.read().strip()} has a node up on this machine, and there can be one only. Wait for it."
            ) from held
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _free_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.took[name] = round(time.monotonic() - begin, 2)


def _is_ready(node: Object | None) -> bool:
    conditions = node["status"].get("conditions", []) if node else []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
