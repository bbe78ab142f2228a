"""A real service with real engines: for tests that start clusters. Each needs some seconds."""

import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy import select
from sqlalchemy.orm import Session

from moorage.wire import Phase, WorkloadKind
from moorage_service.app import create_app
from moorage_service.clusters.reconcile import step, survey
from moorage_service.context import Context
from moorage_service.identity.tokens import issue_token
from moorage_service.reconciler.loop import make_reconcilers
from moorage_service.settings import PREFIX, Inventory, Rates, Settings
from moorage_service.store.tables import ClusterRow, EnvironmentRow, ProjectRow, UserRow, WorkloadRow
from moorage_service.workloads import lifecycle
from tests.images.places import find_uv, open_python
from tests.ports import free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
ENGINES = ("ray[default]==2.60.0", "dask[dataframe]==2026.8.0", "distributed==2026.8.0", "bokeh>=3.8")


@contextmanager
def open_settings(**given: Any) -> Iterator[Settings]:
    """Of a machine of 8 cores, with a state folder that clusters' own uids can pass through, which pytest's are not."""
    state = Path(tempfile.mkdtemp(prefix="mo-"))
    state.chmod(0o755)
    ours = {
        "port": free_port(), "inventory": Inventory(cpu=8, memory=32 << 30, gpus={}), "reconcile_s": 0.2, "hub_token_cache_s": 0,
        "seed_starter": False, "port_first": 26000, "port_blocks": 20, "scale_idle_s": 2.0, "rates": Rates(enabled=False),
    }  # fmt: skip
    yield Settings(state=state, **{**ours, **given})
    shutil.rmtree(state, ignore_errors=True)


@functools.cache
def engine_environment(*more: str) -> Path:
    """An environment with both engines, `more` packages and our client, as a project would have it; built once and kept.

    It lies where every uid can read it, for clusters run as their users.
    """
    digest = hashlib.sha256(json.dumps((*ENGINES, *more)).encode()).hexdigest()[:12]
    root = Path("/tmp") if os.geteuid() == 0 else Path.home() / ".cache"
    kept = root / f"moorage-test-engines-{os.getuid()}-{digest}"
    root.mkdir(parents=True, exist_ok=True)
    with open(f"{kept}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "ready").exists():
            shutil.rmtree(kept, ignore_errors=True)
            _run("venv", "-q", "--python", str(open_python()), str(kept))
            _run(
                "pip", "install", "-q", "--compile-bytecode", "--python", str(kept / "bin" / "python"), *ENGINES, *more
            )
            (kept / "ready").touch()
        # Sealed by its name: a service that sweeps half-built environments leaves this one alone.
        (kept / "moorage-environment.json").write_text(json.dumps({"digest": digest, "packages": packages_of(kept)}))
        site = next((kept / "lib").glob("python*/site-packages"))
        # From the checkout, so that the agent is the one under test.
        shutil.copytree(ROOT / "extensions" / "moorage", site / "moorage", dirs_exist_ok=True)
    return kept


def _run(*arguments: str) -> None:
    subprocess.run([str(find_uv()), *arguments], check=True, timeout=900, umask=0o022)


def packages_of(environment: Path) -> dict[str, str]:
    site = [str(path) for path in (environment / "lib").glob("python*/site-packages")]
    return {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions(path=site)}


class Bench:
    """A person with a notebook, at a service that runs. `api` sends as the notebook, `people` maps names to headers."""

    def __init__(self, context: Context, headers: dict[str, str], notebook: dict[str, str]) -> None:
        self.context = context
        self.headers = headers
        self.notebook = notebook
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{context.settings.port}{PREFIX}", trust_env=False, timeout=30
        )

    def create(self, **spec: Any) -> str:
        spec = {"min_workers": 1, "max_workers": 1, "worker": {"cpu": 1, "memory": 1 << 30}, **spec}
        answer = self.http.post("/api/v1/clusters", json={"spec": spec}, headers=self.notebook)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v1/clusters/{cluster_id}", headers=self.notebook)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def attach(self, cluster_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v1/clusters/{cluster_id}/attach", headers=self.notebook)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, cluster_id: str, phase: str, *, within: float = 90) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = self.cluster(cluster_id)
            if found["phase"] in ("failed", "stopped") and found["phase"] != phase:
                raise AssertionError(f"{found['phase']}: {found['reason']}\n{self.log(cluster_id)[-4000:]}")
            return found if found["phase"] == phase else None

        return eventually(reached, within=within, what=f"phase {phase}")

    def busy(self, cluster_id: str) -> bool:
        """Whether a worker works, as its agent said last."""
        with self.context.database.read() as session:
            report = session.get_one(ClusterRow, cluster_id).report or {}
        return any(each["busy"] for each in report.get("workers", ()))

    def idle_s(self, cluster_id: str) -> float:
        """For how long it had neither work nor a client, as its agent said last; 0 when it can't tell."""
        with self.context.database.read() as session:
            report = session.get_one(ClusterRow, cluster_id).report or {}
        return float(report.get("idle_s") or 0.0)

    def end_notebook(self) -> None:
        """Of the notebook there was a row only, which is not how things are at the end of a test of what is left."""
        with self.context.database.begin() as session:
            row = session.scalars(select(WorkloadRow).where(WorkloadRow.kind == "notebook")).one()
            lifecycle.ended(session, row, Phase.STOPPED, now=self.context.clock(), reason="Stopped.")
        self.notebook = self.headers  # its token is dead: the person goes on

    def log(self, cluster_id: str) -> str:
        return self.http.get(f"/api/v1/clusters/{cluster_id}/log", headers=self.notebook).text

    def stop(self, cluster_id: str) -> dict[str, Any]:
        self.http.delete(f"/api/v1/clusters/{cluster_id}", headers=self.notebook)
        return eventually(
            lambda: found if (found := self.cluster(cluster_id))["ended_at"] else None,
            within=60,
            what="the cluster's end",
        )


@contextmanager
def serve(context: Context) -> Iterator[None]:
    """The service on its real port, with the loop that is for clusters."""
    loops = make_reconcilers(context, {WorkloadKind.CLUSTER: step}, {WorkloadKind.CLUSTER: survey})
    config = uvicorn.Config(
        create_app(context, background=False), host="127.0.0.1", port=context.settings.port, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, what="the service")
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.stop()
        server.should_exit = True
        thread.join(timeout=60)


@contextmanager
def open_bench(context: Context, headers: dict[str, str]) -> Iterator[Bench]:
    """Of ada, whose headers these are, at a service that runs, with real engines. Ends her clusters afterwards."""
    notebook = furnish(context, engine_environment(), "ada")
    with serve(context):
        made = Bench(context, headers, notebook)
        yield made
        for cluster in made.http.get("/api/v1/clusters", headers=made.headers).json():
            made.stop(cluster["id"])
        made.http.close()


def furnish(context: Context, environment: Path, owner: str) -> dict[str, str]:
    """A project in this environment, and a ready notebook of `owner` in it: its headers."""
    return furnish_with(context, environment, packages_of(environment), owner)


def furnish_with(context: Context, environment: Path, packages: dict[str, str], owner: str) -> dict[str, str]:
    digest = "engines"
    (context.settings.state / "environments" / digest).symlink_to(environment)
    with context.database.begin() as session:
        now = context.clock()
        session.add(EnvironmentRow(digest=digest, python="3", packages=packages, lock="", created_at=now))
        project = ProjectRow(
            slug="starter",
            name="Starter",
            manifest="name: Starter\n",
            open_to_all=True,
            environment=digest,
            created_at=now,
        )
        session.add(project)
        session.flush()
        return notebook_of(session, context, owner, project)


def notebook_of(session: Session, context: Context, owner: str, project: ProjectRow) -> dict[str, str]:
    """A ready notebook's row of `owner`: its headers."""
    user = session.scalars(select(UserRow).where(UserRow.hub_name == owner)).one()
    notebook = lifecycle.new_workload(
        session, kind=WorkloadKind.NOTEBOOK, name="starter", owner_id=user.id, project_id=project.id, now=context.clock(),
        phase=Phase.READY, environment=project.environment, details={"size": {"cpu": 1, "memory": 1 << 30}},
    )  # fmt: skip
    session.flush()
    return {"Authorization": f"Bearer {issue_token(session, notebook)}"}
