"""What a workload's processes find in their environment: a list that is written here, and of credentials their own alone."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from moorage.wire import Size
from moorage_images.network import VARIABLES, network_environment, without_credentials
from moorage_jobs import snapshot
from moorage_service.clusters.platforms.local import argv, environ
from moorage_service.context import Context
from moorage_service.jobs import launch
from moorage_service.store.tables import ProjectRow
from tests.security.test_specs import an_admission, notebook_process
from tests.service.test_engines import DASK_SPEC, RAY_SPEC, local_plan, order
from tests.service.world import GIB

# What the service's and the hub's own processes have that no workload may see: by name and by value.
OURS = {
    "MOORAGE_VAULT_KEY": "CANARY-vault",
    "CONFIGPROXY_AUTH_TOKEN": "CANARY-proxy",
    "JUPYTERHUB_CRYPT_KEY": "CANARY-crypt",
    "MOORAGE_DATABASE_URL": "postgresql://moorage:CANARY-database@db/x",
    "OAUTH_CLIENT_SECRET": "CANARY-oauth",
    "AWS_SECRET_ACCESS_KEY": "CANARY-cloud",
    "SSH_AUTH_SOCK": "/CANARY-agent",
    "UV_INDEX_URL": "https://user:CANARY-index@index.example/",
    "KUBECONFIG": "/CANARY-kube",
    "LD_PRELOAD": "",
}

COMMON = {
    "PATH",
    "VIRTUAL_ENV",
    "HOME",
    "LANG",
    "CUDA_VISIBLE_DEVICES",
    "MOORAGE_API_URL",
    "MOORAGE_WORKLOAD",
    "MOORAGE_GENERATION",
}
PERSON = {"USER", "MOORAGE_PUBLIC_URL", "MOORAGE_TOKEN", "MOORAGE_PROJECT", "MOORAGE_USER"}
NOTEBOOK = (
    COMMON
    | PERSON
    | {"LOGNAME", "SHELL", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "JUPYTERHUB_ROOT_DIR", "JUPYTERHUB_DEFAULT_URL"}
)
RUN = COMMON | PERSON | {"MOORAGE_CLUSTER", "MOORAGE_SCHEDULED_FOR"}
CLUSTER = COMMON | {"TMPDIR", "PYTHONNOUSERSITE", "PYTHONUNBUFFERED", "MOORAGE_USER"}
RAY = {
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_USAGE_STATS_ENABLED",
    "RAY_CLOUD_INSTANCE_ID",
    "RAY_NUM_REDIS_GET_RETRIES",
    "GRPC_ENABLE_FORK_SUPPORT",
    "DASHBOARD_METRIC_PORT",
    "AUTOSCALER_METRIC_PORT",
}
AGENT = {
    "MOORAGE_TOKEN",
    *(f"MOORAGE_AGENT_{name}" for name in ("ENGINE", "ADDRESS", "MIN_WORKERS", "WORKER", "PORTS")),
}
HUB_GIVES = {"JUPYTERHUB_API_TOKEN": "hub-token", "JUPYTERHUB_USER": "ada"}


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OURS.items():
        monkeypatch.setenv(name, value)


def nothing_of_ours(env: Any, *more: Any) -> None:
    text = json.dumps([dict(env), *more], default=str)
    assert "CANARY" not in text
    assert not set(env) & set(OURS)


def test_a_notebook_finds_its_own_token_and_its_users_secrets_alone(tmp_path: Path) -> None:
    admission = an_admission(tmp_path)
    spec = notebook_process(tmp_path, admission, Size(cpu=1, memory=GIB))
    known = NOTEBOOK | set(HUB_GIVES) | set(admission.environment_variables)
    # The server's folder for what it can't do without is not in the home: its variables name paths alone.
    assert {name for name in set(spec.env) - known if not str(spec.env[name]).startswith(str(tmp_path))} == set()
    nothing_of_ours(spec.env, spec.argv, spec.labels)
    tokens = [value for name, value in spec.env.items() if "TOKEN" in name]
    assert sorted(tokens) == ["hub-token", "moor_t"]
    assert "moor_t" not in json.dumps([spec.argv, dict(spec.labels), spec.cwd])


@pytest.mark.parametrize("spec", [RAY_SPEC, DASK_SPEC], ids=["ray", "dask"])
def test_a_clusters_processes_find_its_credentials_alone_and_only_the_agent_our_token(spec: Any) -> None:
    plan = local_plan(spec)
    engine = (
        RAY if spec.engine == "ray" else {name for name in plan.head.env if name.startswith("DASK_DISTRIBUTED__COMM__")}
    )
    for name, role in (("head", plan.head), ("worker", plan.worker), ("agent", plan.agent)):
        env = environ(order(plan), role, "/e", "/f", "http://127.0.0.1:1", ["0"])
        allowed = CLUSTER | engine | (AGENT if name == "agent" else {"KEY"})
        assert set(env) - allowed == set(), name
        nothing_of_ours(env, argv("/e/bin/python", role))
        assert ("MOORAGE_TOKEN" in env) == (name == "agent")
        assert ("KEY" in env) == (name != "agent"), "a user's secrets are for head and workers"
        assert "t0ken" not in " ".join(argv("/e/bin/python", role))


def run_to_start(context: Context, source: str) -> launch.RunToStart:
    return launch.RunToStart(
        run_id="run-x",
        generation=1,
        token="moor_run",
        user="ada",
        uid=None,
        gid=None,
        project="starter",
        environment="abc",
        source=source,
        notebook="a.ipynb",
        declared=[],
        given={},
        scheduled_for=context.clock(),
        secrets={"KEY": "value-of-key"},
        gpus=[],
        size={"cpu": 1, "memory": GIB},
        cluster_id="cl-x",
        timeout_s=None,
    )


def test_a_run_finds_its_own_token_and_the_secrets_that_it_names_alone(context: Context) -> None:
    notebook = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}).encode()
    store = snapshot.SnapshotStore(context.settings.state / "snapshots" / "sources")
    (context.settings.state / "scratch").mkdir(exist_ok=True)
    run = run_to_start(context, store.put({"a.ipynb": notebook}))
    spec = launch.prepare(context, run)
    assert set(spec.env) - (RUN | {"KEY"}) == set()
    order_text = (context.settings.state / "scratch" / "run-x" / "order.json").read_text()
    nothing_of_ours(spec.env, spec.argv, spec.labels, order_text)
    assert [value for name, value in spec.env.items() if "TOKEN" in name] == ["moor_run"]
    assert "value-of-key" not in order_text, "secrets are named in the order; values come by environment"
    assert "moor_run" not in json.dumps([spec.argv, dict(spec.labels), order_text])


@pytest.mark.parametrize(
    "name", ["MOORAGE_TOKEN", "PATH", "HOME", "VIRTUAL_ENV", "MOORAGE_USER", "MOORAGE_GENERATION", "MOORAGE_API_URL"]
)
def test_a_secret_never_replaces_what_is_ours(context: Context, name: str) -> None:
    run = replace(run_to_start(context, "x"), secrets={name: "forged"})
    assert launch._environment(context.settings, run, Path("/home"))[name] != "forged"


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "ld_preload",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "MOORAGE_TOKEN",
        "JUPYTERHUB_API_TOKEN",
        "RAY_AUTH_TOKEN",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
        "PATH",
        "BASH_ENV",
        "PYTHONHOME",
        "IPYTHONDIR",
        "GIT_SSH_COMMAND",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
        "HOME",
        "A-B",
        "A=B",
        "A\n",
        "1A",
        "\u00c4",
        "\uff30ATH",
        "A" * 101,
        "A\0",
    ],
)
def test_a_secret_is_not_called_like_what_runs_other_code(
    client: Any, ada: dict[str, str], project: ProjectRow, name: str
) -> None:
    answer = client.put(f"/api/v1/me/secrets/{quote(name, safe='')}", headers=ada, json={"value": "x"})
    assert answer.status_code in (400, 404, 405), f"{name!r}: {answer.text}"
    assert client.get("/api/v1/me/secrets", headers=ada).json() == []


def test_a_build_is_given_what_reaches_the_index_and_nothing_else() -> None:
    given = network_environment(os.environ)
    assert set(given) <= set(VARIABLES)
    assert "CANARY" not in json.dumps(without_credentials(given)), "what runs the code of packages"
    assert not {
        name
        for name in VARIABLES
        if "TOKEN" in name or "SECRET" in name or name.startswith(("MOORAGE", "LD_", "PYTHON"))
    }
    left = {value for name, value in OURS.items() if name not in VARIABLES and value}
    assert not left & set(given.values())
    assert sys.executable not in given.values()
