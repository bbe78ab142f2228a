"""Fault 1: the service is killed (SIGKILL) between any two steps of a create, started again, and asked again with the same key.

Nothing is orphaned, lost or made twice; each workload is ready, or says why not, within 60 s.
"""

import base64
from typing import Any

import httpx

from tests.faults.checking import check
from tests.faults.crashes import Ask, Tally, ask_through_crash
from tests.faults.figures import Report, Scale
from tests.faults.installation import Installation
from tests.service.jobs_bench import notebook
from tests.waiting import eventually

# In the order in which a create reaches them; the later ones in the reconciler, after the answer.
POINTS = {
    "clusters": (
        "create.recorded", "create.committed", "cluster.planned", "bind.recorded", "bind.committed", "launch.written",
        "launch.spawned", "launch.spawned:2", "launch.written:3", "cluster.started",
    ),
    "runs": (
        "run.recorded", "run.committed", "run.admitted", "run.claimed", "run.prepared", "launch.written", "launch.spawned",
        "run.started",
    ),
    "notebooks": ("notebook.recorded", "notebook.committed"),
}  # fmt: skip
USABLE = {
    "clusters": "ready",
    "runs": "running",
    "notebooks": "pending",
}  # a notebook waits for the hub to start its server
STRIDE = 7  # has no divisor with the number of points in common, so that a few rounds see points of every kind


def test_everything_is_made_once_wherever_its_create_was_cut_off(
    installation: Installation, scale: Scale, report: Report
) -> None:
    tally, rounds = Tally(), scale.rounds(200, short=6)
    every = [(kind, point) for kind, points in POINTS.items() for point in points]
    installation.start()
    job = promote(installation)
    slowest = 0.0
    for number in range(rounds):
        kind, point = every[number * STRIDE % len(every)]
        made = ask_through_crash(installation, point, asking(installation, kind, job, f"round-{number}"), tally)
        workload = str(made.get("id") or made.get("workload_id"))
        usable = installation.wait(workload, USABLE[kind], "failed", within=60)
        assert usable["phase"] == USABLE[kind], f"round {number}, {point}: {usable['reason']}"
        if usable["ready_at"]:
            slowest = max(slowest, installation.seconds_to_ready(workload))
        with installation.api() as http:
            assert living(http) == [workload], f"round {number}: {point}"
            http.delete(f"/workloads/{workload}").raise_for_status()
        installation.wait(workload, "stopped", "cancelled")
    check(installation)
    assert not tally.missed
    report(1, rounds=rounds, points=len(every), kills=tally.kills, asked_again=tally.unanswered, orphans=0, lost=0, double=0,
           slowest_s_to_ready=round(slowest, 1))  # fmt: skip


def living(http: httpx.Client) -> list[str]:
    return [row["id"] for row in http.get("/workloads").json()]


def promote(installation: Installation) -> str:
    files = [{"path": "work.ipynb", "content": base64.b64encode(notebook("1 + 1")).decode()}]
    with installation.api() as http:
        answer = http.post("/jobs", json={"project": "starter", "notebook": "work.ipynb", "files": files})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def asking(installation: Installation, kind: str, job: str, key: str) -> Ask:
    """The request for one of this kind, that may be repeated."""
    if kind == "notebooks":
        return lambda _http: ask_as_hub(installation)
    path, body = ("/clusters", installation.cluster_request()) if kind == "clusters" else (f"/jobs/{job}/runs", {})
    return lambda http: http.post(path, json=body, headers={"Idempotency-Key": key})


def ask_as_hub(installation: Installation) -> httpx.Response:
    """As the spawner does: what is left of an earlier start is asked to end, and waited for."""
    size = {"cpu": 0.1, "memory": 1 << 30}
    asked: dict[str, Any] = {"user": "ada", "admin": False, "groups": [], "project": "starter", "size": size}

    def admitted() -> httpx.Response | None:
        with installation.spawner() as hub:
            answer = hub.post("/notebooks", json=asked)
        return None if answer.status_code == 409 and answer.json()["code"] == "notebook_exists" else answer

    return eventually(admitted, what="the notebook's admission")
