"""A run's process: its scratch folder, its order, and what it is started with."""

import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moorage import folders
from moorage.wire import Size, codec
from moorage_images import environments
from moorage_jobs import parameters as job_parameters
from moorage_jobs import snapshot
from moorage_jobs.run_order import RunOrder
from moorage_service.clock import to_text
from moorage_service.context import Context
from moorage_service.settings import Settings
from moorage_spawners.launch import Identity, ProcessSpec

ROLE = "runner"
OUTPUTS = "outputs"  # below the scratch folder: where the runner writes


@dataclass(frozen=True, kw_only=True)
class RunToStart:
    """Everything that starting needs, read from the store at once."""

    run_id: str
    generation: int
    token: str
    user: str
    uid: int | None
    gid: int | None
    project: str
    environment: str
    source: str
    notebook: str
    declared: list[dict[str, Any]]
    given: dict[str, Any]
    scheduled_for: datetime | None
    secrets: dict[str, str]
    gpus: list[str]
    size: dict[str, Any]
    cluster_id: str | None
    timeout_s: int | None


def scratch(settings: Settings, run_id: str) -> Path:
    return settings.state / "scratch" / run_id


def prepare(context: Context, run: RunToStart) -> ProcessSpec:
    """Fills a new scratch folder (an earlier one of the same run is removed) and says what to start in it.

    Raises moorage_jobs.errors.SnapshotMissingError, or OSError when the disk does not take it.
    """
    top = scratch(context.settings, run.run_id)
    remove(context.settings, run.run_id)
    files = snapshot.SnapshotStore(context.settings.state / "snapshots" / "sources").get(run.source)
    top.mkdir(mode=0o700)
    snapshot.unpack(files, top / "source", uid=run.uid, gid=run.gid)
    order = RunOrder(
        notebook=run.notebook,
        folder=str(top / "source"),
        output=str(top / OUTPUTS),
        kernel_argv=[str(_python(context.settings, run)), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        parameters=_passed(run, json.loads(files[run.notebook])),
        secrets=sorted(run.secrets),
        timeout_s=run.timeout_s,
        report_patience_s=context.settings.run_report_s,
    )
    order_file = top / "order.json"
    order_file.write_text(order.to_json())
    order_file.chmod(0o600)
    for name in ("home", OUTPUTS):
        (top / name).mkdir(mode=0o700)
    if run.uid is not None and run.gid is not None:
        for path in (order_file, top / "home", top / OUTPUTS, top):  # the folder itself last
            os.chown(path, run.uid, run.gid)
    return ProcessSpec(
        workload_id=run.run_id,
        generation=run.generation,
        role=ROLE,
        argv=(_server_python(context.settings), "-I", "-m", "moorage_jobs.runner", str(order_file)),
        env=_environment(context.settings, run, top / "home"),
        cwd=str(top),
        identity=Identity(uid=run.uid, gid=run.gid, home=str(top / "home")),
        size=codec.parse(Size, run.size),
        labels={"owner": run.user, "project": run.project, "kind": "run"},
    )


def remove(settings: Settings, run_id: str) -> None:
    """Removes the scratch folder. Not there: nothing."""
    folders.remove(scratch(settings, run_id), ignore_errors=True)


def _passed(run: RunToStart, notebook: dict[str, Any]) -> dict[str, Any]:
    """What the runner injects: defaults that the promotion changed, then what the run was given.

    A notebook that declares `scheduled_for` is told the time that the run stands for, the same however often it is
    tried.
    """
    own = {one.name: one.default for one in job_parameters.infer(notebook)}
    values = {one["name"]: one["default"] for one in run.declared if one["default"] != own.get(one["name"])}
    if "scheduled_for" in own and run.scheduled_for is not None:
        values["scheduled_for"] = to_text(run.scheduled_for)
    return {**values, **run.given}


def _environment(settings: Settings, run: RunToStart, home: Path) -> dict[str, str]:
    """The whole environment of the runner and its kernel. Secrets first: none of them replaces what is ours."""
    variables = {
        **run.secrets,
        "PATH": f"{_python(settings, run).parent}:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": str(_python(settings, run).parent.parent),
        "HOME": str(home),
        "USER": run.user,
        "LANG": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": ",".join(run.gpus),
        "MOORAGE_API_URL": settings.url,
        "MOORAGE_PUBLIC_URL": settings.addresses.portal,
        "MOORAGE_TOKEN": run.token,
        "MOORAGE_PROJECT": run.project,
        "MOORAGE_WORKLOAD": run.run_id,
        "MOORAGE_GENERATION": str(run.generation),
        "MOORAGE_USER": run.user,
    }
    if run.cluster_id is not None:
        variables["MOORAGE_CLUSTER"] = run.cluster_id
    if run.scheduled_for is not None:
        variables["MOORAGE_SCHEDULED_FOR"] = to_text(run.scheduled_for)
    return variables


def _python(settings: Settings, run: RunToStart) -> Path:
    return environments.path_of(settings.environments, run.environment) / "bin" / "python"


def _server_python(settings: Settings) -> str:
    return str(settings.server_python or sys.executable)
