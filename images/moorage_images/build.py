"""Builds an environment: lock, install, compile, seal, record. Built once, immutable, shared where it may be.

Two kinds of build. From wheels alone: no package's code runs before the environment is complete, so that the download
cache and the result are shared by all projects. With sources: a package's own code runs, so that cache and result
belong to this build and this project alone.
"""

import contextlib
import dataclasses
import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from moorage_images import environments
from moorage_images.bounds import Bounds
from moorage_images.environments import EnvironmentRecord
from moorage_images.errors import BuildCancelledError, BuildError
from moorage_images.install import indented, install, try_kernel
from moorage_images.network import has_credentials, without_credentials
from moorage_images.plan import EnvironmentPlan, Lock, digest
from moorage_images.resolve import NoWheelError, resolve
from moorage_images.sandbox import Account, Log, Sandbox
from moorage_images.seal import remove, seal

# As root, one build at a time on the machine, whichever installation it belongs to: their uids may be the same, and
# a build ends whatever else runs under its uid. The folder is root's alone, so that nobody else can hold the lock.
MACHINE_LOCK = Path("/run/moorage-builds.lock")


@dataclass(frozen=True, kw_only=True)
class BuildPlaces:
    """Where builds happen, and with what. All below the state folder; the caller gives them once."""

    environments: Path  # complete ones; readable by every uid
    cache: Path  # wheels, shared by all builds that run no package's code; made here, and theirs alone
    scratch: Path  # working folders of builds; each is removed at its end
    uv: Path
    accounts: range | None  # uids for builds when root: the first for wheels, the others for sources; None: our own
    bounds: Bounds
    network: Mapping[str, str]  # what reaches the package index: network.network_environment(os.environ)


def build(
    plan: EnvironmentPlan, project: str, places: BuildPlaces, *, log: Log, cancel: threading.Event
) -> EnvironmentRecord:
    """The complete environment of `plan`; at once if it exists already. `project` is the project's id.

    Raises BuildError or BuildCancelledError; nothing half-made is left then. One build at a time: others wait.
    """
    _ensure(places.environments, 0o755)
    with _alone(_lock(places.environments, as_root=places.accounts is not None), log, cancel):
        try:
            return _build(plan, project, _with_reachable_uv(places), log, cancel)
        except OSError as error:
            raise BuildError(f"The environment can't be built: {error}. An admin has to look at the disk.") from error


@contextlib.contextmanager
def no_build(folder: Path, *, cancel: threading.Event) -> Iterator[None]:
    """Waits until nobody builds in this folder of environments, and lets nobody begin. Raises BuildCancelledError."""
    with _alone(_lock(folder, as_root=os.geteuid() == 0), lambda _line: None, cancel):
        yield


def _lock(folder: Path, *, as_root: bool) -> Path:
    return MACHINE_LOCK if as_root else folder / ".building"


def _build(
    plan: EnvironmentPlan, project: str, places: BuildPlaces, log: Log, cancel: threading.Event
) -> EnvironmentRecord:
    log(f"Resolving {len(plan.requirements)} requirements for Python {plan.interpreter.version}.")
    try:
        with _wheel_sandbox(places) as sandbox:
            lock = resolve(plan, sandbox, places.uv, from_source=False, log=indented(log), cancel=cancel)
            return _complete(plan, lock, project, places, sandbox, log, cancel)
    except NoWheelError:
        log("Some package has no wheel for this Python: building from source, for this project alone.")
        if has_credentials(places.network):
            log("The package index is asked without its name and password: the code of packages could read them.")
    with _source_sandbox(places) as sandbox:
        lock = resolve(plan, sandbox, places.uv, from_source=True, log=indented(log), cancel=cancel)
        return _complete(plan, lock, project, places, sandbox, log, cancel)


def _complete(
    plan: EnvironmentPlan,
    lock: Lock,
    project: str,
    places: BuildPlaces,
    sandbox: Sandbox,
    log: Log,
    cancel: threading.Event,
) -> EnvironmentRecord:
    name = digest(plan, lock, project)
    there = environments.read(places.environments, name)
    if there is not None:
        log(f"Environment {name} is there already, with exactly these versions.")
        return there
    folder = environments.path_of(places.environments, name)
    remove(folder)  # what a killed build left
    try:
        sandbox.give(folder, 0o755)
        install(plan, lock, folder, sandbox, places.uv, log, cancel)
        sandbox.end_processes()
        log("Checking the environment, and closing it for writing.")
        seal(folder, plan.interpreter, owner=None if sandbox.account is None else (os.getuid(), os.getgid()))
        with _source_sandbox(places) as other:
            try_kernel(folder, other, log, cancel)
        record = EnvironmentRecord(
            digest=name,
            python=plan.interpreter.version,
            architecture=plan.interpreter.architecture,
            created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            from_source=lock.from_source,
            packages=environments.installed(folder),
            lock=lock.text,
        )
        environments.write(places.environments, record)
    except BaseException:  # an interrupt, too, must leave nothing half-made
        sandbox.end_processes()
        remove(folder)
        raise
    log(f"Environment {name} is ready: Python {record.python}, {len(record.packages)} packages.")
    return record


def _wheel_sandbox(places: BuildPlaces) -> Sandbox:
    account = None if places.accounts is None else Account(places.accounts[0], places.accounts[0])
    _ensure(places.cache, 0o700, account)
    return _sandbox(places, account, {**places.network, "UV_CACHE_DIR": str(places.cache)})


def _source_sandbox(places: BuildPlaces) -> Sandbox:
    account = None
    if places.accounts is not None:
        uid = places.accounts[1 + secrets.randbelow(len(places.accounts) - 1)]
        account = Account(uid, uid)
    return _sandbox(places, account, without_credentials(places.network))


def _sandbox(places: BuildPlaces, account: Account | None, variables: Mapping[str, str]) -> Sandbox:
    _ensure(places.scratch, 0o711)
    return Sandbox(places.scratch / f"build-{secrets.token_hex(6)}", account, variables, places.bounds)


def _with_reachable_uv(places: BuildPlaces) -> BuildPlaces:
    """The throwaway identities may have no way to where uv lies (a checkout in a private home): give them a copy."""
    if places.accounts is None:
        return places
    _ensure(places.scratch, 0o711)
    copy = places.scratch / f"uv-{places.uv.stat().st_mtime_ns:x}"
    if not copy.exists():
        fresh = places.scratch / f".uv-{secrets.token_hex(4)}"
        shutil.copyfile(places.uv, fresh)
        fresh.chmod(0o755)
        fresh.rename(copy)
    return dataclasses.replace(places, uv=copy)


def _ensure(folder: Path, mode: int, account: Account | None = None) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, mode=mode)
        folder.chmod(mode)  # whatever our umask is
        if account is not None:
            os.chown(folder, account.uid, account.gid)


@contextlib.contextmanager
def _alone(lock: Path, log: Log, cancel: threading.Event) -> Iterator[None]:
    """Holds the lock, whatever process or installation asks for it too."""
    waiting = False
    with os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    log("Waiting for another build on this machine.")
                    waiting = True
                if cancel.wait(0.5):
                    raise BuildCancelledError("The build was cancelled while it waited for another.") from None
        yield
