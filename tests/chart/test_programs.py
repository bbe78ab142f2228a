"""The small programs that the chart brings: the pre-puller's wait, `helm test`, and what a pod begins with."""

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from tests.chart.rendering import CHART, Chart


def load(name: str) -> ModuleType:
    """A program of the chart as a module: it is no package's."""
    spec = importlib.util.spec_from_file_location(name, CHART / "files" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def daemon_set(*, ready: int, wanted: int, seen: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"generation": 1},
        "status": {"observedGeneration": seen, "numberReady": ready, "desiredNumberScheduled": wanted},
    }


def test_the_wait_ends_when_all_nodes_have_the_images() -> None:
    answers = iter(
        [{"metadata": {"generation": 1}}, daemon_set(ready=0, wanted=0, seen=0), daemon_set(ready=1, wanted=2)]
    )
    asked = 0

    def ask() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return next(answers, daemon_set(ready=2, wanted=2))

    assert load("await_images").wait(ask, seconds=60, pause_s=0.0) == "All 2 nodes have the images."
    assert asked == 4, "an empty status is no answer"


def test_no_node_is_nothing_to_wait_for() -> None:
    assert load("await_images").wait(lambda: daemon_set(ready=0, wanted=0), seconds=60).startswith("All 0 nodes")


def test_a_wait_that_is_too_long_says_how_far_it_came() -> None:
    said = load("await_images").wait(lambda: daemon_set(ready=1, wanted=3), seconds=0)
    assert "1 of 3 nodes have the images. The install goes on" in said


def test_an_api_server_that_is_away_is_asked_again() -> None:
    answers: list[Exception | dict[str, Any]] = [ConnectionResetError("reset"), daemon_set(ready=1, wanted=1)]

    def ask() -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert load("await_images").wait(ask, seconds=60, pause_s=0.0).startswith("All 1 nodes")


class Proxy(BaseHTTPRequestHandler):
    """Answers as a proxy with a hub and without a service."""

    hosts: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.hosts.append(self.headers["Host"])
        self.send_response(503 if self.path.startswith("/services/") else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature is the library's
        """Nothing to the terminal."""


@pytest.fixture
def proxy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_helm_test_names_the_part_that_does_not_answer(proxy: str) -> None:
    check = load("check_answers")
    complaints = {part: check.complaint(part, proxy, "https://moorage.example.org") for part in check.PATHS}
    assert complaints["proxy"] is None
    assert complaints["hub"] is None
    assert "The service does not answer at" in complaints["service"]
    assert set(Proxy.hosts) == {"moorage.example.org"}, "under the public name, for hub and service answer to no other"


def test_both_are_put_into_the_cluster_as_they_are(chart: Chart) -> None:
    for name, program in (("moorage-image-puller-hook", "await_images.py"), ("moorage-test", "check_answers.py")):
        written = chart.render().one("ConfigMap", name)["data"][program]
        assert written.strip() == (CHART / "files" / program).read_text().strip()


def place(chart: Chart, root: Path) -> Path:
    """Runs what a pod of the service begins with, below `root` in place of /. Returns the state folder."""
    (init,) = dict(chart.render().pods())["Deployment/moorage-service"]["spec"]["initContainers"]
    shell, options, script = init["command"]
    script = script.replace("/srv/moorage", f"{root}/srv/moorage").replace("/etc/moorage", f"{root}/etc/moorage")
    subprocess.run([shell, options, script], check=True, env={"PATH": os.environ["PATH"], "POD": "pod-1"})
    return root / "srv" / "moorage"


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """What Kubernetes mounts: an empty volume, settings, tokens."""
    (tmp_path / "srv").mkdir()
    for path, text in (
        ("settings/settings.yaml", "service: {}"),
        ("tokens/hub-to-service", "first"),
        ("tokens/vault-key", "first"),
    ):
        file = tmp_path / "etc" / "moorage" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def test_settings_and_tokens_are_placed_for_their_owner_alone(chart: Chart, mounted: Path) -> None:
    state = place(chart, mounted)
    placed = {str(path.relative_to(state)): path for path in state.rglob("*") if path.is_file()}
    assert set(placed) == {"settings.yaml", "secrets/hub-to-service", "secrets/vault-key"}
    assert {path.stat().st_mode & 0o777 for path in placed.values()} == {0o600}
    assert (state / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_token_follows_its_secret_and_the_vault_key_stays(chart: Chart, mounted: Path) -> None:
    """The service may have turned to a newer key, with which all is sealed anew."""
    state = place(chart, mounted)
    (state / "secrets" / "vault-key").write_text("rotated")
    (mounted / "etc" / "moorage" / "tokens" / "hub-to-service").write_text("second")
    (mounted / "etc" / "moorage" / "settings" / "settings.yaml").write_text("service: {max_workers: 2}")
    place(chart, mounted)
    assert (state / "secrets" / "vault-key").read_text() == "rotated"
    assert (state / "secrets" / "hub-to-service").read_text() == "second"
    assert (state / "settings.yaml").read_text() == "service: {max_workers: 2}"


def test_the_hub_is_told_which_token_of_the_service_has_ended(chart: Chart, mounted: Path) -> None:
    """It knows one for ever unless it ends it itself, as it starts (`moorage_hub.old_tokens`)."""
    token = mounted / "etc" / "moorage" / "tokens" / "service-to-hub"
    token.write_text("first")
    placed = place(chart, mounted) / "secrets" / "service-to-hub"
    assert placed.read_text().split() == ["first"]
    token.write_text("second")
    for _ in range(2):  # a pod that is made anew before the hub has read it
        place(chart, mounted)
        assert placed.read_text().split() == ["second", "first"]
        assert placed.stat().st_mode & 0o777 == 0o600
    placed.write_text("second")  # as the hub leaves it
    place(chart, mounted)
    assert placed.read_text() == "second"
