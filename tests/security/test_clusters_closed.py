"""Real clusters, and strangers at their ports: who has no credential of this very cluster gets nowhere."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from moorage_service.clusters.operations import credentials_of
from moorage_service.context import Context
from moorage_service.settings import Settings
from moorage_service.store.tables import ClusterRow, EventRow, WorkloadRow
from tests.service.conftest import Headers
from tests.service.engines_bench import Bench, engine_environment, furnish, open_settings, serve

TRIES = 60  # seconds for a driver to give up; those of the engines are far shorter


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(port_first=27000) as made:
        yield made


@pytest.fixture
def bench(context: Context, ada: Headers) -> Iterator[Bench]:
    notebook = furnish(context, engine_environment(), "ada")
    with serve(context):
        made = Bench(context, ada, notebook)
        yield made
        for cluster in made.http.get("/api/v1/clusters", headers=notebook).json():
            made.stop(cluster["id"])
        made.http.close()


def ask(bench: Bench, code: str, **variables: str) -> str:
    """What a stranger's program wrote, with the same versions of everything. Under the owner's uid, which no wall of ports is for."""
    uid = bench.context.settings.uid_first + 1
    options: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="mo-stranger-") as home:
        Path(home).chmod(0o777)
        env = {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, **variables}
        argv = [str(engine_environment() / "bin" / "python"), "-c", code]
        done = subprocess.run(
            argv, env=env, cwd=home, capture_output=True, text=True, timeout=TRIES, check=False, **options
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return str(done.stdout.strip().splitlines()[-1])


# What a driver's first messages ask, of the store and of the client server, without waiting for the driver's many retries.
RAY = """
import os, grpc
metadata = [("authorization", "Bearer " + os.environ["TOKEN"])] if "TOKEN" in os.environ else []
found = []
for address, method in (
    (os.environ["STORE"], "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"),
    (os.environ["STORE"], "/ray.rpc.InternalKVGcsService/InternalKVKeys"),
    (os.environ["CLIENT"], "/ray.rpc.RayletDriver/ClusterInfo"),
):
    call = grpc.insecure_channel(address).unary_unary(method)
    try:
        call(b"", metadata=metadata, timeout=20)
        found.append("OK")
    except grpc.RpcError as error:
        found.append(error.code().name)
print(*found)
"""
# Prints "in" when it got further than it should, else why not.
DASK = """
import asyncio, os
from distributed import Client
from distributed.security import Security
async def main():
    security = Security.temporary() if os.environ["ADDRESS"].startswith("tls") else None
    try:
        async with Client(os.environ["ADDRESS"], security=security, asynchronous=True, timeout="5s") as client:
            print("in", await client.submit(sum, [1]))
    except BaseException as error:
        print("refused", type(error).__name__)
asyncio.run(main())
"""


def credentials(bench: Bench, cluster_id: str) -> dict[str, str]:
    with bench.context.database.read() as session:
        return dict(credentials_of(bench.context, session.get_one(ClusterRow, cluster_id)))


def everything_kept_about(bench: Bench, cluster_id: str) -> str:
    """What a list of processes, the store's plain columns, the history and the API show of a cluster."""
    commands = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                commands.append((process / "cmdline").read_text())
            except OSError:
                continue
    with bench.context.database.read() as session:
        row, workload = session.get_one(ClusterRow, cluster_id), session.get_one(WorkloadRow, cluster_id)
        kept = [row.spec, row.report, row.scale, workload.details, workload.reason]
        kept += [event.message for event in session.query(EventRow).filter(EventRow.workload_id == cluster_id)]
    folder = bench.context.machine.root / cluster_id
    records = [path.read_text() for path in folder.rglob("*.json")]
    return "\n".join(
        [*commands, json.dumps(kept), *records, json.dumps(bench.cluster(cluster_id)), bench.log(cluster_id)]
    )


def listeners(bench: Bench, cluster_id: str) -> set[str]:
    """Addresses on which a cluster's processes listen."""
    found = set()
    for seen in bench.context.processes.observe(cluster_id):
        shim = psutil.Process(seen.pid)
        for process in (shim, *shim.children(recursive=True)):
            connections = process.net_connections(kind="inet")
            found |= {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    return found


def test_a_ray_cluster_refuses_whoever_lacks_its_own_token(bench: Bench) -> None:
    cluster, other = bench.create(engine="ray"), bench.create(engine="ray")
    bench.wait(cluster, "ready")
    own, others = credentials(bench, cluster), credentials(bench, other)
    assert own["token"] != others["token"]
    bench.stop(other)
    attach = bench.attach(cluster)
    dashboard = attach["probe_url"]
    with httpx.Client(trust_env=False, timeout=30) as http:
        for headers in ({}, {"Authorization": f"Bearer {others['token']}"}, {"X-Ray-Authorization": "Bearer x"}):
            for method, path, body in (
                ("POST", "/api/jobs/", {"entrypoint": "id"}),
                ("GET", "/api/jobs/", None),
                ("DELETE", "/api/jobs/raysubmit_1", None),
                ("GET", "/nodes?view=summary", None),
                ("GET", "/api/v0/tasks", None),
                ("GET", "/api/cluster_status", None),
            ):
                answer = http.request(method, f"{dashboard}{path}", headers=headers, json=body)
                assert answer.status_code in (401, 403), (method, path, answer.status_code)
        answer = http.get(f"{dashboard}/nodes?view=summary", headers={"Authorization": f"Bearer {own['token']}"})
        assert answer.status_code == 200, "with its own token the same request is answered"
    doors = {"STORE": attach["address"], "CLIENT": attach["client_address"].removeprefix("ray://")}
    assert set(ask(bench, RAY, **doors).split()) == {"UNAUTHENTICATED"}
    assert set(ask(bench, RAY, **doors, TOKEN=others["token"]).split()) == {"UNAUTHENTICATED"}
    assert "UNAUTHENTICATED" not in ask(bench, RAY, **doors, TOKEN=own["token"]), "with its own token it is let in"
    shown = everything_kept_about(bench, cluster)
    assert "cl-" in shown
    assert own["token"] not in shown
    assert own["agent"] not in shown


def test_a_dask_cluster_refuses_whoever_lacks_its_certificate(bench: Bench) -> None:
    cluster = bench.create(engine="dask")
    bench.wait(cluster, "ready")
    address = bench.attach(cluster)["address"]
    assert address.startswith("tls://127.0.0.1:")
    assert ask(bench, DASK, ADDRESS=address).startswith("refused")
    assert ask(bench, DASK, ADDRESS=address.replace("tls:", "tcp:")).startswith("refused")
    assert listeners(bench, cluster) == {"127.0.0.1"}
    shown = everything_kept_about(bench, cluster)
    for name, value in credentials(bench, cluster).items():
        if name != "ca":
            assert value.splitlines()[len(value.splitlines()) // 2] not in shown, name
