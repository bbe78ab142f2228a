"""`moorage-hub up`: service, proxy and hub, until Ctrl-C. Workloads go on without us."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

import httpx

from moorage.origins import PREFIX
from moorage_hub.build_news import BuildNews
from moorage_hub.children import MOST_AT_START, Census, Child, end_strays
from moorage_hub.errors import AlreadyRunning, ChildFailed
from moorage_hub.hosts import check_names, hold_other_loopback
from moorage_hub.proxy_child import proxy_child
from moorage_hub.pulse import Pulse
from moorage_hub.settings import HubSettings
from moorage_spawners.launch import LocalProcesses, Observation
from moorage_spawners.launch.marks import mark_of
from moorage_spawners.shim import tree

WATCH_S = 0.2
UP_S = 120.0
Say = Callable[[str], None]


def service_child(settings: HubSettings, environ: Mapping[str, str]) -> Child:
    """The service, told where it is; what an admin set for it lies in settings.yaml and in MOORAGE_SERVICE_*."""
    given = {
        "STATE": str(settings.state),
        "PORT": str(settings.service_port),
        "PUBLIC_URL": settings.public_url,
        "ORIGINS": settings.origins,
        "HUB_API_URL": settings.hub_api_url,
        "SERVER_PYTHON": settings.server_python,
        "TRUSTED_PROXIES": json.dumps(settings.trusted_proxies),
        **installation(settings.state),
    }
    mark = {tree.COOKIE: mark_of(settings.state)}
    env = {**{f"MOORAGE_SERVICE_{name}": value for name, value in given.items()}, **environ, **mark}
    return Child(
        name="service",
        argv=(settings.control_python, "-I", "-m", "moorage_service.main"),
        env=env,
        log=settings.state / "logs" / "service.log",
        cwd=settings.state,
    )


def hub_child(settings: HubSettings, environ: Mapping[str, str]) -> Child:
    config = str(Path(__file__).with_name("jupyterhub_config.py"))
    return Child(
        name="hub",
        argv=(settings.control_python, "-I", "-m", "moorage_hub.application", "--config", config),
        env={**environ, "MOORAGE_HOME": str(settings.state), tree.COOKIE: mark_of(settings.state)},
        log=settings.state / "logs" / "hub.log",
        cwd=settings.state / "database",
    )


def installation(state: Path) -> dict[str, str]:
    """What the set-up recorded for the service: its uv and the client's wheel. Names as of the service's settings."""
    path = state / "installation.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


class Supervisor:
    """Holds the state folder's lock from `__enter__` to `__exit__`."""

    def __init__(self, settings: HubSettings, environ: Mapping[str, str], say: Say) -> None:
        self.settings = settings
        self.say = say
        self.census = Census(settings.state)
        # In the order of their start; they end in the opposite one.
        self.service = service_child(settings, environ)
        self.proxy = proxy_child(settings, environ)
        self.hub = hub_child(settings, environ)
        self.children = [self.service, self.proxy, self.hub]
        self._news = BuildNews(settings.state)
        urls = {
            "service": f"{settings.service_url}/health",
            "proxy": f"{settings.local_url}/_chp_healthz",
            "hub": f"{settings.hub_connect_url}/hub/health",
        }
        self._pulses = [Pulse(child, urls[child.name], settings.unresponsive_s) for child in self.children]
        self._stopping = False
        self._troubles: dict[str, str] = {}  # what the disk refuses now, and was said
        self._lock = -1
        self._held: socket.socket | None = None

    def __enter__(self) -> "Supervisor":
        path = self.settings.state / "database" / "up.lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise AlreadyRunning(
                f"Moorage runs already on {self.settings.state}, at {self.settings.public_url}. "
                "`make link` makes a new login link, `make down` stops it."
            ) from None
        for name in self.census.end(["service", "hub", "proxy"]):
            self.say(f"Ended the {name} that an earlier start had left behind")
        strays = end_strays(self.settings.state)
        if strays:
            self.say(f"Ended {strays} process{'' if strays == 1 else 'es'} that an earlier start had left behind")
        return self

    def __exit__(self, *_: object) -> None:
        for pulse in self._pulses:
            pulse.stop()
        for child in reversed(self.children):
            child.stop()
        end_strays(self.settings.state, within_s=5)
        if self._held is not None:
            self._held.close()
        os.close(self._lock)

    def start(self) -> None:
        """Returns when hub, proxy and service answer. Raises ChildFailed, and BadSettings for names that can't be used."""
        check_names(self.settings.addresses)
        self._held = hold_other_loopback(self.settings.addresses, self.settings.bind, self.settings.port)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        local = self.settings.local_url
        # The proxy comes up while the service does, and is there when the hub asks for its routes.
        for child, url, needed in (
            (self.service, f"{self.settings.service_url}/health", [self.service, self.proxy]),
            (self.hub, f"{local}/hub/health", self.children),
            (self.service, f"{local}{PREFIX}/health", self.children),
        ):
            self._until_answers(child, url, needed)
        self._write_census()

    def _until_answers(self, child: Child, url: str, needed: list[Child]) -> None:
        deadline = time.monotonic() + UP_S
        through = url.startswith(self.settings.local_url)
        headers = {"Host": self.settings.addresses.netloc} if through else {}
        while not self._stopping:
            for each in needed:
                each.check(MOST_AT_START)
            self._write_census()
            try:
                if httpx.get(url, headers=headers, timeout=5, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass  # not yet
            if time.monotonic() > deadline:
                raise ChildFailed(f"The {child.name} did not answer at {url} within {UP_S:.0f} s.{child.tail()}")
            time.sleep(WATCH_S / 2)

    def watch(self) -> None:
        """Until a signal. Raises ChildFailed when one of them cannot be kept up."""
        pids: list[int | None] = []
        for pulse in self._pulses:
            pulse.start()
        while not self._stopping:
            for line in self._news.lines():
                self.say(f"  Project environment: {line}")
            for pulse in self._pulses:
                if pulse.silent():
                    self.say(
                        f"The {pulse.child.name} has not answered for {pulse.patience_s:.0f} s: it is started again"
                    )
                    pulse.give_up()
            for child in self.children:
                with self._survived(f"The {child.name} can't be started again"):
                    child.check()
                with self._survived(f"The log of the {child.name} can't be kept short"):
                    child.keep_log_short(self.settings.log_bytes, self.settings.logs_kept)
            now = [child.process.pid if child.process is not None else None for child in self.children]
            if now != pids and self._write_census():
                pids = now
            time.sleep(WATCH_S)

    def _write_census(self) -> bool:
        """Whether it could be written. While it can't, `make down` finds the same processes by their mark."""
        pids = {"supervisor": os.getpid()}
        pids |= {child.name: child.process.pid for child in self.children if child.process is not None}
        with self._survived("The list of the processes can't be written"):
            self.census.write(pids)
            return True
        return False

    @contextlib.contextmanager
    def _survived(self, what: str) -> Iterator[None]:
        """A disk that is full is said, once until it is over, and tried again: it must not end those that still run."""
        try:
            yield
        except OSError as error:
            words = f"{what}: {error}. It is tried again; make room on the disk"
            if self._troubles.get(what) != words:
                self._troubles[what] = words
                with contextlib.suppress(OSError):  # what we say may go to a file on the same disk
                    self.say(words)
        else:
            self._troubles.pop(what, None)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True


def running(state: Path) -> list[Observation]:
    """The workload processes that live."""
    return [seen for seen in LocalProcesses(state / "workloads").observe_all() if not seen.gone]


def what_goes_on(state: Path) -> str:
    """What runs without hub and service, in a sentence."""
    kinds: dict[str, set[str]] = {}
    for seen in running(state):
        kinds.setdefault(seen.labels.get("kind", "workload"), set()).add(seen.workload_id)
    if not kinds:
        return "Nothing else runs."
    words = [f"{len(ids)} {kind if len(ids) == 1 else kind + 's'}" for kind, ids in sorted(kinds.items())]
    return f"Still running: {', '.join(words)}. `make up` finds them again, `make down` ends them."


def end_everything(settings: HubSettings, say: Say, *, grace_s: float = 10.0) -> None:
    """Ends hub, proxy, service and every workload, by pid. What is not there is no error."""
    census = Census(settings.state)
    ended = [*census.end(["supervisor"], within_s=60), *census.end()]
    end_strays(settings.state)
    say("Stopped hub, proxy and service" if ended else "Hub, proxy and service were not running")
    processes = LocalProcesses(settings.state / "workloads")
    workloads = running(settings.state)
    for seen in workloads:
        processes.stop(seen.workload_id, grace_s=grace_s)
    kill_at = time.monotonic() + grace_s
    while still := running(settings.state):
        if time.monotonic() >= kill_at:  # again: on a full disk nobody else does it
            for seen in still:
                processes.stop(seen.workload_id, grace_s=0)
        time.sleep(0.05)
    processes.wall.down()
    count = len({seen.workload_id for seen in workloads})
    say(f"Stopped {count} workload{'' if count == 1 else 's'}" if count else "No workload was running")
