"""No lock of ours, and no project environment with a cluster, holds a version that is known to be unsafe."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from packaging.version import Version

from moorage_images.minimums import is_safe, minimums, unsafe
from moorage_service.clusters.engines import ENGINES
from moorage_service.context import Context
from moorage_service.store.tables import EnvironmentRow, ProjectRow
from tests.service.conftest import ENVIRONMENT, PACKAGES
from tests.service.world import SIZE

LOCKS = Path(__file__).parents[2] / "locks"
NAMED = {"jupyterhub", "oauthenticator", "jupyter-server", "jupyter-server-proxy", "distributed", "ray", "jupyterlab"}
_LINE = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")


def locked(path: Path) -> dict[str, str]:
    return {match[1]: match[2] for line in path.read_text().splitlines() if (match := _LINE.match(line))}


@pytest.mark.parametrize("lock", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.stem)
def test_no_lock_holds_a_version_that_is_unsafe(lock: Path) -> None:
    packages = locked(lock)
    assert packages
    assert unsafe(packages) == {}


def test_the_gate_knows_what_matters_here_and_looks_at_it() -> None:
    assert set(minimums()) >= NAMED
    everything = {name for lock in LOCKS.glob("*.txt") for name in locked(lock)}
    assert {"jupyterhub", "oauthenticator", "jupyter-server", "jupyterlab"} <= everything


@pytest.mark.parametrize("package", sorted(minimums()))
def test_the_version_before_the_least_is_unsafe_whatever_it_is_called(package: str) -> None:
    least = minimums()[package]
    assert is_safe(package, str(least))
    assert is_safe(package, f"{least.major + 1}.0")
    for older in (f"{least}rc1", f"{least}.dev0", "0.0.1", "not a version", "", f"{least}\n0", "9999-evil"):
        assert not is_safe(package, older), older
    assert unsafe({package.replace("-", "_").upper(): "0.0.1"}), "names are compared in their canonical form"
    assert Version(str(least)) == least


OLD = {"ray": [("ray", "2.53.0"), ("ray", "2.54.0rc1"), ("ray", "garbage")], "dask": [("distributed", "2025.12.0")]}


@pytest.mark.parametrize(("engine", "package", "version"), [(name, *old) for name, olds in OLD.items() for old in olds])
def test_an_environment_with_an_unsafe_engine_gets_no_cluster(
    client: TestClient,
    context: Context,
    project: ProjectRow,
    ada: dict[str, str],
    engine: str,
    package: str,
    version: str,
) -> None:
    with context.database.begin() as session:
        row = session.get_one(EnvironmentRow, ENVIRONMENT)
        row.packages = {**PACKAGES, package: version}
    body = {"project": "starter", "spec": {"engine": engine, "worker": SIZE}}
    answer = client.post("/api/v1/clusters", headers=ada, json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "engine_missing")
    assert version in answer.json()["message"]
    assert "moorage.yaml" in answer.json()["message"], "the remedy"
    offered = client.get("/api/v1/clusters/options?project=starter", headers=ada).json()["engines"]
    assert [one["available"] for one in offered if one["engine"] == engine] == [False]


def test_the_remedy_of_each_engine_is_safe_itself() -> None:
    for name, engine in ENGINES.items():
        remedy = engine.missing({}) or ""
        found = re.search(r"(ray|dask)\[[\w,]+\]>=([0-9.]+)", remedy)
        assert found, name
        assert is_safe("ray" if name == "ray" else "distributed", f"{found[2].rstrip('.')}.0")
