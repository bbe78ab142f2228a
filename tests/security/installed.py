"""Hub, proxy and service as `moorage-hub up` starts them, in a state folder of their own, and browsers to drive them with."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import yaml

from moorage_hub.settings import HubSettings, load
from moorage_hub.state import Ports, prepare_state, write_private
from tests.ports import free_port
from tests.waiting import eventually


class LoopbackTransport(httpx.HTTPTransport):
    """NAME.localhost is this machine to a browser, but not to every resolver."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host.endswith(".localhost"):
            request.url = request.url.copy_with(host="127.0.0.1")  # the Host header stays
        return super().handle_request(request)


class Installed:
    """`up` returns when Moorage answers; settings are given in sections, as settings.yaml has them."""

    def __init__(self, state: Path, proxy_script: Path, server_python: Path) -> None:
        self.state = state
        self._environment = {
            **os.environ,
            "MOORAGE_HUB_SERVER_PYTHON": str(server_python),
            "MOORAGE_HUB_PROXY_SCRIPT": str(proxy_script),
        }
        prepare_state(state)
        # Not the usual ones, which another installation may take at the same moment.
        write_private(state / "ports.json", json.dumps(asdict(Ports(*(free_port() for _ in range(4))))))
        self.settings: HubSettings = load(state)
        self.process: subprocess.Popen[bytes] | None = None
        self.printed = state / "printed"

    @property
    def url(self) -> str:
        return self.settings.public_url

    def configure(self, **sections: dict[str, Any]) -> None:
        (self.state / "settings.yaml").write_text(yaml.safe_dump(sections))

    def up(self) -> None:
        with self.printed.open("w") as output:
            self.process = subprocess.Popen(
                [*self.command, "up", "--state", str(self.state)],
                env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        eventually(self._is_up, within=120, what="Moorage's start")
        self.settings = load(self.state)

    def _is_up(self) -> bool:
        assert self.process is not None
        text = self.printed.read_text()
        assert self.process.poll() is None, text
        return "Moorage runs at" in text

    command = (sys.executable, "-m", "moorage_hub.main")

    def run(self, argv: Sequence[str]) -> str:
        return subprocess.run(
            argv, env=self._environment, capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def link(self) -> str:
        """The login link that was printed."""
        found = re.search(r"http\S+/hub/login-once\S+", self.printed.read_text())
        assert found is not None
        return found[0]

    def down(self) -> None:
        self.run([*self.command, "down", "--state", str(self.state)])
        if self.process is not None:
            self.process.wait(timeout=60)

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        transport = LoopbackTransport()
        with httpx.Client(
            base_url=self.url, follow_redirects=True, timeout=60, trust_env=False, transport=transport
        ) as client:
            yield client


@contextmanager
def installed(proxy_script: Path, server_python: Path) -> Iterator[Installed]:
    """Not below pytest's folder, which other uids may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-security-"))
    folder.chmod(0o755)
    made = Installed(folder / "state", proxy_script, server_python)
    try:
        yield made
    finally:
        made.down()
        shutil.rmtree(folder, ignore_errors=True)
