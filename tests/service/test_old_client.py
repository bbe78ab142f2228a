"""The client of each release, as it was, against today's service: environments pin an old one for years.

`tests/fixtures/moorage-<version>-client.zip` is that release's `moorage` package, made once and kept for ever.
"""

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from moorage.wire import WorkloadKind
from moorage_service.app import create_app
from moorage_service.clusters.engines import ENGINES
from moorage_service.context import Context
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ClusterRow, ProjectRow
from tests.fakes.hub import FakeHub
from tests.ports import free_port
from tests.service.conftest import Headers
from tests.service.world import World, make_world
from tests.waiting import eventually

FIXTURES = Path(__file__).parents[1] / "fixtures"
RELEASES = sorted(FIXTURES.glob("moorage-*-client.zip"))
PROGRAM = FIXTURES / "old_client.py"
OF_THE_HUB = {"admit_notebook", "observe_notebook"}  # the hub is of the service's own version


@pytest.fixture
def url(context: Context) -> Iterator[str]:
    """The service over real HTTP; nothing steps its workloads."""
    port = context.settings.port = free_port()
    config = uvicorn.Config(create_app(context, background=False), host="127.0.0.1", port=port, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, what="the service")
    yield f"http://127.0.0.1:{port}{PREFIX}"
    server.should_exit = True
    thread.join(timeout=60)


@pytest.fixture
def world(context: Context, people: dict[str, Headers], project: ProjectRow) -> World:
    """ada's, in `adas`, with a cluster that can be attached to; and `starter`, open to all."""
    made = make_world(context, "ada", "adas")
    with context.database.begin() as session:
        row = session.get_one(ClusterRow, made.cluster)
        credentials = ENGINES["ray"].credentials(made.cluster, ("localhost",), context.clock())
        row.port_block = 3
        row.sealed = context.vault.seal(json.dumps({**credentials, "agent": made.tokens[WorkloadKind.CLUSTER]}))
        row.report = {"generation": 1, "ready": True, "versions": {"ray": "2.60.0"}, "workers": [], "wanted": 1}
    return made


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
def test_an_old_client_works_as_it_did(
    release: Path, url: str, world: World, hub: FakeHub, people: dict[str, Headers]
) -> None:
    tokens = {name: headers["Authorization"].removeprefix("Bearer ") for name, headers in people.items()}
    tokens |= {kind.value: token for kind, token in world.tokens.items()}
    given = {
        "url": url,
        "tokens": {**tokens, "nobody": "not-a-token"},
        "ids": {"cluster": world.cluster, "run": world.run, "notebook": world.notebook},
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(release), "OLD_CLIENT": json.dumps(given)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["client"].startswith(str(release)), "another client was tested"
    assert set(told["calls"]) == calls_of(release) - OF_THE_HUB


def calls_of(release: Path) -> set[str]:
    """Everything that the release's client could ask."""
    source = zipfile.ZipFile(release).read("moorage/calls.py").decode()
    return {
        line.split()[1].partition("(")[0] for line in source.splitlines() if line.startswith("def ") and line[4] != "_"
    }


def test_the_first_releases_client_is_kept() -> None:
    assert "moorage-0.1.0-client" in {path.stem for path in RELEASES}
