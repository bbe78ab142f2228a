"""Control groups, version 2 or 1, where this user may write them: they bind sizes and find every process of a workload.

A group is a list of folders (one on version 2, one per controller on version 1). Nothing here raises when control
groups are missing or may not be written: what could not be done is absent from `Group.enforced`.
"""

import contextlib
import os

PARENT = "moorage"
PERIOD_US = 100_000


class Group:
    """The folders of one workload process, and which of "cpu" and "memory" really bind."""

    def __init__(self, folders: list[str], enforced: set[str]) -> None:
        self.folders = folders
        self.enforced = enforced


def _write(path: str, text: str) -> bool:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError:
        return False
    return True


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _mounts() -> list[tuple[str, str, str, set[str]]]:
    """Mounted hierarchies: (type, root of the mount inside the hierarchy, mount point, its options)."""
    found = []
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            fields = left.split(" ")
            found.append((kind, fields[3], fields[4], set(options.split(","))))
    return found


def _own_path(controller: str, mount_root: str) -> str:
    """This process's group in a hierarchy ("" names version 2), relative to the mount."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            if mount_root != "/" and path.startswith(mount_root):
                path = path[len(mount_root) :]
            return path.strip("/")
    return ""


def _folder(*parts: str) -> str | None:
    """Makes a group's folder (and its parent), or None when it may not be made."""
    path = os.path.join(*parts)
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError:
        return None
    return path if os.access(os.path.join(path, "cgroup.procs"), os.W_OK) else None


def _version_2(mount: str, mount_root: str, name: str) -> Group | None:
    # As root: below the hierarchy's root, where controllers may be shared out though processes live there, and
    # where the end of a login session does not end notebooks. Else: below our own group, if it was delegated.
    enabled: set[str] = set()
    for base in dict.fromkeys((mount, os.path.join(mount, _own_path("", mount_root)))):
        if _folder(base, PARENT) is None:
            continue
        for controller in ("cpu", "memory"):
            _write(os.path.join(base, "cgroup.subtree_control"), f"+{controller}")
            if _write(os.path.join(base, PARENT, "cgroup.subtree_control"), f"+{controller}"):
                enabled.add(controller)
        folder = _folder(base, PARENT, name)
        if folder is not None:
            return Group([folder], enabled)
    return None


def create(name: str, cpu: float | None, memory: int | None) -> Group:
    """Makes the group `name` with these caps (None: uncapped). Cores and bytes."""
    group, unified = Group([], set()), Group([], set())
    for kind, mount_root, mount, options in _mounts():
        if kind == "cgroup2":
            unified = _version_2(mount, mount_root, name) or unified
            if unified.enforced:
                _limit(unified.folders[0], unified, cpu, memory)
                return unified
            continue
        for controller in sorted({"cpu", "memory"} & options):
            folder = _folder(mount, _own_path(controller, mount_root), PARENT, name)
            if folder is not None:
                group.folders.append(folder)
                group.enforced.add(controller)
                _limit(folder, group, cpu, memory)
    if not group.folders:
        return unified  # without controllers a group still finds every process
    remove(unified.folders)
    return group


def _limit(folder: str, group: Group, cpu: float | None, memory: int | None) -> None:
    """Writes the caps into whichever files the folder has; a cap that is refused is struck from `group.enforced`."""
    if cpu is not None:
        quota = str(max(1000, round(cpu * PERIOD_US)))
        attempts = {"cpu.max": f"{quota} {PERIOD_US}", "cpu.cfs_quota_us": quota}
        _first(folder, attempts, "cpu", group)
    if memory is not None:
        _first(folder, {"memory.max": str(memory), "memory.limit_in_bytes": str(memory)}, "memory", group)
        for swap, value in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", str(memory))):
            if os.path.exists(os.path.join(folder, swap)):
                _write(os.path.join(folder, swap), value)


def _first(folder: str, attempts: dict[str, str], controller: str, group: Group) -> None:
    for name, text in attempts.items():
        path = os.path.join(folder, name)
        if os.path.exists(path):
            if not _write(path, text):
                group.enforced.discard(controller)
            return


def join(folders: list[str]) -> None:
    """Moves the calling process into the group; what it starts stays in it."""
    for folder in folders:
        _write(os.path.join(folder, "cgroup.procs"), str(os.getpid()))


def members(folders: list[str]) -> set[int]:
    """The processes in the group."""
    return {int(pid) for folder in folders for pid in _read(os.path.join(folder, "cgroup.procs")).split()}


def out_of_memory(folders: list[str]) -> int:
    """How many processes of the group the kernel killed for want of memory."""
    most = 0
    for folder in folders:
        for name in ("memory.events", "memory.oom_control"):
            for line in _read(os.path.join(folder, name)).splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill":
                    most = max(most, int(value))
    return most


def listed() -> dict[str, list[str]]:
    """Every group there is below ours: name -> its folders."""
    parents = []
    for kind, mount_root, mount, options in _mounts():
        if kind == "cgroup2":
            parents += [os.path.join(mount, PARENT), os.path.join(mount, _own_path("", mount_root), PARENT)]
        else:
            parents += [
                os.path.join(mount, _own_path(each, mount_root), PARENT) for each in {"cpu", "memory"} & options
            ]
    found: dict[str, list[str]] = {}
    for parent in dict.fromkeys(os.path.normpath(each) for each in parents):
        with contextlib.suppress(OSError), os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.setdefault(entry.name, []).append(entry.path)
    return found


def remove(folders: list[str]) -> None:
    """Removes the group's folders. One that still has processes stays."""
    for folder in folders:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def missing() -> str | None:
    """None when caps on cpu and memory bind here; else why sizes are advisory, as a sentence."""
    probe = create(f"probe-{os.getpid()}", 1.0, 1 << 30)
    remove(probe.folders)
    absent = sorted({"cpu", "memory"} - probe.enforced)
    if not absent:
        return None
    remedy = "ask an administrator to run Moorage as root" if os.geteuid() else "mount the cgroup file system writable"
    return (
        f"Sizes are advisory here for {' and '.join(absent)}: Moorage may not write this machine's control groups, "
        f"so nothing holds a workload to what it asked for. To have them enforced, {remedy}."
    )
