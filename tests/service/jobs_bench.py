"""What the tests of jobs share: notebooks, promotions, and an environment folder that really runs."""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.jobs import execution
from moorage_service.store.tables import ReservationRow, RunRow, WorkloadRow
from tests.service.conftest import ENVIRONMENT, Headers
from tests.waiting import eventually

API = "/api/v1"


def notebook(*cells: str, parameters: str | None = None) -> bytes:
    sources = [*([] if parameters is None else [parameters]), *cells]
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None, "id": f"c{n}"}
        for n, source in enumerate(sources)
    ]
    if parameters is not None:
        made[0]["metadata"]["tags"] = ["parameters"]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}).encode()


def promotion(content: bytes, *, helper: str | None = None, **more: Any) -> dict[str, Any]:
    files = [{"path": "work.ipynb", "content": base64.b64encode(content).decode()}]
    if helper is not None:
        files.append({"path": "helper.py", "content": base64.b64encode(helper.encode()).decode()})
    return {"project": "starter", "notebook": "work.ipynb", "files": files, **more}


def make_environment(context: Context) -> None:
    """The project environment of the tests: this very interpreter, under the digest that the project names."""
    python = context.settings.state / "environments" / ENVIRONMENT / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (python.parents[1] / "moorage-environment.json").write_text("{}")


@dataclass
class Jobs:
    """Talks to the routes as one person, and steps runs as the reconciler does."""

    client: TestClient
    context: Context
    headers: Headers

    def post(self, path: str, body: Any, **headers: str) -> Any:
        answer = self.client.post(API + path, json=body, headers={**self.headers, **headers})
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        answer = self.client.get(API + path, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def promote(self, content: bytes, **more: Any) -> Any:
        return self.post("/jobs", promotion(content, **more))

    def start(self, job: Any, **parameters: Any) -> str:
        return str(self.post(f"/jobs/{job['id']}/runs", {"parameters": parameters})["id"])

    def step(self, run_id: str) -> Any:
        execution.step(self.context, run_id)
        return self.get(f"/runs/{run_id}")

    def until(self, run_id: str, *phases: str, within: float = 60) -> Any:
        """Steps the run until it is in one of the phases, and returns it."""
        seen: list[Any] = []

        def there() -> bool:
            seen.append(self.step(run_id))
            return seen[-1]["phase"] in phases

        eventually(there, within=within, what=f"run {run_id} in {phases}")
        return seen[-1]


def held(context: Context) -> set[str]:
    """Workloads whose reservations live."""
    with context.database.read() as session:
        return set(session.scalars(select(ReservationRow.workload_id).where(ReservationRow.released_at.is_(None))))


def run_rows(context: Context) -> list[tuple[WorkloadRow, RunRow]]:
    """Oldest fire first."""
    with context.database.read() as session:
        found = session.execute(
            select(WorkloadRow, RunRow)
            .join(RunRow, RunRow.workload_id == WorkloadRow.id)
            .order_by(RunRow.scheduled_for, WorkloadRow.created_at)
        )
        return [(workload, run) for workload, run in found]


def outputs_folder(context: Context, run_id: str) -> Path:
    return context.settings.state / "outputs" / run_id
