"""Clusters as processes of this machine: a shim per role, a folder per cluster, the project's environment."""

import contextlib
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from moorage import folders
from moorage_images import environments
from moorage_service.clusters.plan import HEAD, RolePlan, Site
from moorage_service.clusters.platforms.base import Order, Seen
from moorage_service.settings import PREFIX, Settings
from moorage_spawners.launch import Identity, LaunchError, LocalProcesses, Observation, ProcessSpec

log = logging.getLogger(__name__)
MODULES = {"ray": "ray.scripts.scripts", "dask": "dask", "moorage-agent": "moorage.agent"}
LOOPBACK = "127.0.0.1"
# Ray's sockets lie deep: <folder>/r/session_<date>_<time>_<pid>/sockets/plasma_store.<n>. The kernel takes 107 bytes.
LONGEST_FOLDER = 107 - len("/r/session_2026-11-21_12-24-15_466253_4194304/sockets/plasma_store.999")
STOP_GRACE_S = 3.0  # nothing in a cluster outlives it, so nothing is worth a long wait
LOG_KEPT = 1 << 20  # bytes per role
TAIL = 4096
MAKING = ".making-moorage-"  # a folder that is not whole yet
_NAME = re.compile(r"[a-z0-9]{12}")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class LocalPlatform:
    """`hider_of(cluster_id)` takes out of a text what must not be shown of it."""

    def __init__(
        self, settings: Settings, processes: LocalProcesses, hider_of: Callable[[str], Callable[[str], str]]
    ) -> None:
        self._settings = settings
        self._processes = processes
        self._hider_of = hider_of

    def site(self, cluster_id: str, ports: Mapping[str, int]) -> Site:
        return Site(
            host=LOOPBACK,
            bind=LOOPBACK,
            folder=str(self.folder(cluster_id)),
            ports=ports,
            prefix=f"{PREFIX}/dashboards/{cluster_id}",
        )

    def folder(self, cluster_id: str) -> Path:
        """The cluster's working folder; a short one elsewhere when the state folder's path is too long for sockets."""
        parent, prefix = self._place(cluster_id)
        return parent / f"{prefix}{cluster_id.rpartition('-')[2]}"

    def _place(self, cluster_id: str) -> tuple[Path, str]:
        folder = self._settings.state / "scratch"
        if len(str(folder / cluster_id.rpartition("-")[2])) <= LONGEST_FOLDER:
            return folder, ""
        return Path("/tmp"), "moorage-"  # noqa: S108 - made by `_make_folder`, which trusts nobody there

    def observe(self, cluster_id: str) -> list[Seen]:
        # One whose start was interrupted before it ran is started anew, as if it had never been asked for.
        return [_seen(each) for each in self._processes.observe(cluster_id) if each.started_at or not each.gone]

    def start(self, order: Order, role: str, plan: RolePlan, devices: Sequence[str]) -> None:
        folder = self.folder(order.cluster_id)
        _make_folder(folder, order)
        environment = environments.path_of(self._settings.environments, order.environment)
        self._processes.start(
            ProcessSpec(
                workload_id=order.cluster_id,
                generation=order.generation,
                role=role,
                argv=argv(str(environment / "bin" / "python"), plan),
                env=environ(order, plan, str(environment), str(folder), self._settings.url, devices),
                cwd=str(folder / "work"),
                identity=order.identity,
                size=plan.size,
                labels={"kind": "cluster", **order.labels},
                ports=tuple(order.plan.ports.values()) if role == HEAD else (),
            )
        )

    def stop(self, cluster_id: str, role: str | None = None) -> None:
        grace_s = min(STOP_GRACE_S, self._settings.stop_grace_s)
        self._processes.stop(cluster_id, role=role, grace_s=grace_s)

    def log(self, cluster_id: str) -> str:
        kept = self._kept(cluster_id)
        if kept.exists():
            return kept.read_text(errors="replace")
        parts = []
        roles = dict.fromkeys(seen.role for seen in self.observe(cluster_id))
        for role in sorted(roles, key=lambda role: (role != HEAD, role)):
            parts.append(f"==> {role} <==\n{self._end_of(cluster_id, role, LOG_KEPT)}")
        return "\n".join(parts)

    def tail(self, cluster_id: str, role: str) -> str:
        lines = [line for line in self._end_of(cluster_id, role, TAIL).splitlines() if line.strip()]
        return "\n".join(lines[-4:])[-800:]

    def forget(self, cluster_id: str, role: str) -> None:
        self._processes.forget(cluster_id, role=role)

    def clear(self, cluster_id: str) -> None:
        try:
            self._keep_log(cluster_id)
        except OSError as error:  # a full disk must not keep what the cluster holds
            log.warning("the log of cluster %s could not be kept: %s", cluster_id, error)
        self._processes.forget(cluster_id)
        folders.remove(self.folder(cluster_id), ignore_errors=True)

    def _keep_log(self, cluster_id: str) -> None:
        text = self.log(cluster_id)
        kept = self._kept(cluster_id)
        if text and not kept.exists():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            part.rename(kept)

    def sweep(self, ended: Callable[[Collection[str]], Collection[str]], *, older_s: float) -> list[Path]:
        """Removes what a killed service left: folders of clusters that have `ended` (ids -> those of them), and half-made ones so old."""
        parent, prefix = self._place("cl-" + 12 * "x")
        uids = range(self._settings.uid_first, self._settings.uid_first + self._settings.uid_count)
        there, doomed = {}, []
        for path in parent.iterdir() if parent.exists() else ():
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                if not stat.S_ISDIR(found.st_mode) or (found.st_uid != os.geteuid() and found.st_uid not in uids):
                    continue
                if path.name.startswith(MAKING) and found.st_mtime < time.time() - older_s:
                    doomed.append(path)
                elif _NAME.fullmatch(path.name.removeprefix(prefix)) and path.name.startswith(prefix):
                    there[f"cl-{path.name.removeprefix(prefix)}"] = path
        for cluster_id in ended(there):
            self.clear(cluster_id)
            doomed.append(there[cluster_id])
        for path in doomed:
            folders.remove(path, ignore_errors=True)
        return doomed

    def _kept(self, cluster_id: str) -> Path:
        return self._settings.state / "logs" / "clusters" / f"{cluster_id}.log"

    def _end_of(self, cluster_id: str, role: str, most: int) -> str:
        try:
            with open(self._processes.log_path(cluster_id, role), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most))
                text = file.read(most).decode(errors="replace")
        except FileNotFoundError:
            return ""
        return self._hider_of(cluster_id)(_COLOURS.sub("", text))


def argv(python: str, plan: RolePlan) -> tuple[str, ...]:
    """By module, for the scripts of an environment hold the path at which it was built."""
    program, *rest = plan.command()
    return (python, "-m", MODULES[program], *rest)


def environ(
    order: Order, plan: RolePlan, environment: str, folder: str, api_url: str, devices: Sequence[str]
) -> dict[str, str]:
    """The whole environment of one process; nothing of the service's own. The cluster's token goes to the agent alone."""
    agent = plan is order.plan.agent
    own = {
        "HOME": order.identity.home,
        "LANG": "C.UTF-8",
        "PATH": f"{environment}/bin:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": environment,
        "TMPDIR": f"{folder}/tmp",  # noqa: S108 - the cluster's own
        # Every process sees the environment that was built, whatever the user has put into their home.
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": ",".join(devices),
        "MOORAGE_API_URL": api_url,
        "MOORAGE_WORKLOAD": order.cluster_id,
        "MOORAGE_GENERATION": str(order.generation),
    }
    secret = {variable: order.credentials[name] for variable, name in order.plan.secret_env.items()}
    token = {"MOORAGE_TOKEN": order.credentials["agent"]} if agent else {}
    return {**({} if agent else order.secrets), **order.variables, **own, **plan.env, **secret, **token}


def _make_folder(folder: Path, order: Order) -> None:
    """Makes the cluster's folder with its files, 0700 and its user's, or finds it made.

    It appears whole, by a rename: what a user owns is never written to by us. Raises LaunchError when something else is
    in its place.
    """
    uid = order.identity.uid if order.identity.uid is not None else os.geteuid()
    try:
        found = folder.lstat()
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077:
            return
        raise LaunchError(f"{folder} is in the way: it is not this cluster's folder. Ask an admin to remove it.")
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=MAKING, dir=folder.parent))
    for name in ("tmp", "work"):
        (made / name).mkdir(mode=0o700)
    for name, credential in order.plan.files.items():
        with open(os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(order.credentials[credential])
    _give(made, order.identity)
    made.rename(folder)


def _give(made: Path, identity: Identity) -> None:
    if identity.uid is None or identity.gid is None:
        return
    for path in (*made.iterdir(), made):
        os.chown(path, identity.uid, identity.gid)


def _seen(each: Observation) -> Seen:
    if each.machine_restarted:
        return Seen(role=each.role, gone=True, lost=False, out_of_memory=False, how="the machine was restarted")
    if each.out_of_memory:
        how = "it ran out of memory"
    elif each.signal is not None:
        how = f"it was ended by signal {each.signal}"
    elif each.exit_code is not None:
        how = f"it ended with exit status {each.exit_code}"
    else:
        how = "it ended unseen"
    if each.message:
        how = f"{how} ({each.message.rstrip('.')})"
    return Seen(
        role=each.role, gone=each.gone, lost=each.state == "lost", out_of_memory=each.out_of_memory > 0, how=how
    )
