"""Runs from end to end: the real service over HTTP, real processes, the real runner, real kernels."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.settings import Settings
from moorage_service.store.tables import ProjectRow, SecretRow
from tests.folders import contents
from tests.service.conftest import Headers
from tests.service.engines_bench import open_settings
from tests.service.jobs_bench import held, make_environment, notebook, outputs_folder
from tests.service.runs_bench import Service
from tests.waiting import eventually

CANARY = "kanarienvogel-4711"


@pytest.fixture
def settings() -> Iterator[Settings]:
    with open_settings(reconcile_s=0.1, run_report_s=5, stop_grace_s=2) as made:
        yield made


@pytest.fixture
def service(context: Context, people: dict[str, Headers], project: ProjectRow) -> Iterator[Service]:
    make_environment(context)
    made = Service(context, people["ada"])
    made.start()
    yield made
    made.close()


def test_a_run_executes_in_the_project_environment_under_its_users_uid_and_leaves_its_outputs(
    service: Service, bob: Headers
) -> None:
    content = notebook(
        "import os, helper\nprint('uid', os.getuid(), 'home', os.path.basename(os.environ['HOME']), helper.name, rate)",
        "print('token', os.environ['MOORAGE_TOKEN'])",
        parameters="rate = 0.5",
    )
    job = service.promote(content, helper="name = 'aide'")
    run_id = service.start_run(job, rate=2.5)
    run = service.until(run_id, "succeeded", "failed")
    assert run["phase"] == "succeeded", (run["reason"], service.http.get(f"/runs/{run_id}/log").text)
    assert [cell["state"] for cell in run["cells"]] == ["completed"] * 4
    assert run["outputs"] == ["notebook.ipynb", "notebook.html", "run.log"]
    uid = "61001" if os.geteuid() == 0 else str(os.geteuid())
    log = service.http.get(f"/runs/{run_id}/log").text
    assert f"uid {uid} home home aide 2.5" in log
    assert "token ***" in log
    page = service.output(run_id, "notebook.html")
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "aide" in page.text
    codes = [event["code"] for event in run["events"]]
    assert codes == ["run.asked", "run.admitted", "run.starting", "run.running", "run.succeeded"]
    assert held(service.context) == set()
    scratch = service.context.settings.state / "scratch" / run_id
    eventually(lambda: not scratch.exists() and not service.context.processes.observe(run_id), what="nothing left")
    for path in ("", "/log", "/outputs/notebook.html", "/outputs/notebook.ipynb"):
        assert service.http.get(f"/runs/{run_id}{path}", headers=bob).status_code == 404
    assert service.http.delete(f"/runs/{run_id}", headers=bob).status_code == 404
    assert all(file.stat().st_mode & 0o077 == 0 for file in outputs_folder(service.context, run_id).iterdir())


def test_a_failing_cell_is_shown_with_its_trace_and_old_runs_keep_their_version(service: Service) -> None:
    first = service.start_run(service.promote(notebook("1 / 0")))
    run = service.until(first, "succeeded", "failed")
    assert (run["phase"], run["reason_code"], run["exit_code"]) == ("failed", "run.error", 10)
    assert run["reason"] == "Cell 1 failed: ZeroDivisionError: division by zero."
    assert "1 / 0" in run["traceback"]
    second = service.start_run(service.promote(notebook("1 / 1")))
    assert service.until(second, "succeeded", "failed")["phase"] == "succeeded"
    assert [service.run(one)["version"] for one in (first, second)] == [1, 2]


def test_a_secret_reaches_the_run_by_reference_and_appears_nowhere(service: Service) -> None:
    context = service.context
    with context.database.begin() as session:
        project_id = session.scalars(select(ProjectRow.id)).one()
        for name in ("API_KEY", "OTHER"):
            session.add(
                SecretRow(
                    scope="project", scope_id=project_id, name=name, sealed=context.vault.seal(CANARY + name),
                    updated_at=context.clock(),
                )
            )  # fmt: skip
    cells = (
        "import os\nkey = os.environ['API_KEY']\nprint(len(key), key, 'OTHER' in os.environ)",
        "raise ValueError(key)",
    )
    run_id = service.start_run(service.promote(notebook(*cells), secrets=["API_KEY"]))
    run = service.until(run_id, "succeeded", "failed")
    assert run["reason"] == "Cell 2 failed: ValueError: ***."
    scratch = context.settings.state / "scratch" / run_id
    eventually(lambda: not scratch.exists() and not context.processes.observe(run_id), what="nothing left")
    kept = [file.read_text() for file in outputs_folder(context, run_id).iterdir()]
    assert any(f"{len(CANARY) + 7} *** False" in text for text in kept)
    assert all(CANARY not in text for text in (str(run), *kept))
    assert [path for path, data in contents(context.settings.state) if CANARY.encode() in data] == []


def test_a_run_is_cancelled_while_it_runs_and_what_it_did_is_kept(service: Service) -> None:
    run_id = service.start_run(service.promote(notebook("print('done', flush=True)", "import time; time.sleep(600)")))
    eventually(lambda: [cell["state"] for cell in service.run(run_id)["cells"]] == ["completed", "running"], within=60)
    assert service.http.delete(f"/runs/{run_id}").status_code == 202
    run = service.until(run_id, "cancelled", "failed", "succeeded")
    assert (run["phase"], run["reason"]) == ("cancelled", "Stopped by its owner.")
    assert "done" in service.output(run_id, "notebook.ipynb").text
    assert held(service.context) == set()


def test_a_run_waits_for_room_with_the_refusal_as_its_reason_and_goes_when_there_is(
    service: Service, admin: Headers
) -> None:
    job = service.promote(notebook("1"))
    limit = {"scope": "user", "name": "ada", "resource": "cpu", "amount": 0.5}
    made = service.http.post("/limits", json=limit, headers=admin)
    assert made.status_code == 201, made.text
    run_id = service.start_run(job)
    eventually(lambda: service.run(run_id)["reason_code"] == "limit.refused", what="the refusal")
    run = service.run(run_id)
    assert run["phase"] == "queued"
    assert "Waits for room. Refused by the limit that ada may hold at most 0.5 cpu" in run["reason"]
    url = f"/limits/{made.json()['id']}"
    service.http.put(url, json={**limit, "amount": 4}, headers=admin).raise_for_status()
    assert service.until(run_id, "succeeded", "failed")["phase"] == "succeeded"


def test_a_run_goes_on_while_the_service_is_away_and_reports_when_it_is_back(
    service: Service, context: Context
) -> None:
    run_id = service.start_run(
        service.promote(notebook("import time\nprint('before', flush=True)\ntime.sleep(2)", "print('after')"))
    )
    eventually(lambda: service.run(run_id)["cells"], within=60)
    service.stop()
    service.context = replace(context, database=type(context.database)(context.settings.sqlalchemy_url))
    service.start()
    run = service.until(run_id, "succeeded", "failed")
    assert run["phase"] == "succeeded", (run["reason"], service.http.get(f"/runs/{run_id}/log").text)
    assert [cell["state"] for cell in run["cells"]] == ["completed", "completed"]
    assert "after" in service.output(run_id, "notebook.ipynb").text


def test_a_run_that_ends_while_the_service_is_away_is_all_there_when_it_is_back(
    service: Service, context: Context
) -> None:
    run_id = service.start_run(service.promote(notebook("import time\ntime.sleep(2)", "print('after')", "1 / 0")))
    eventually(lambda: service.run(run_id)["cells"], within=60)
    service.stop()
    eventually(lambda: all(seen.gone for seen in context.processes.observe(run_id)), within=60, what="the run's end")
    service.context = replace(context, database=type(context.database)(context.settings.sqlalchemy_url))
    service.start()
    run = service.until(run_id, "succeeded", "failed")
    assert run["reason"] == "Cell 3 failed: ZeroDivisionError: division by zero."
    assert [cell["state"] for cell in run["cells"]] == ["completed", "completed", "failed"]
    assert run["outputs"] == ["notebook.ipynb", "notebook.html", "run.log"]
    assert "after" in service.output(run_id, "notebook.html").text


def test_a_runner_that_is_killed_is_a_failed_run_with_its_log(service: Service) -> None:
    cells = (
        "import os, signal\nprint('last words', flush=True)\nos.kill(os.getppid(), signal.SIGKILL)\nimport time; "
        "time.sleep(600)",
    )
    run_id = service.start_run(service.promote(notebook(*cells)))
    run = service.until(run_id, "failed", "succeeded")
    assert (run["reason_code"], held(service.context)) == ("run.runner-died", set())
    assert "run.log" in run["outputs"]


def test_a_run_reports_about_itself_only(service: Service, context: Context, ada: Headers) -> None:
    code = (
        "import os, urllib.request, urllib.error\n"
        'def ask(method, path, data=b\'{"sequence": 1, "cells": []}\'):\n'
        "    headers = {'Authorization': 'Bearer ' + os.environ['MOORAGE_TOKEN'], 'Content-Type': 'application/json'}\n"
        "    url = os.environ['MOORAGE_API_URL'] + '/api/v1' + path\n"
        "    try:\n"
        "        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as answer:\n"
        "            return answer.status\n"
        "    except urllib.error.HTTPError as error:\n"
        "        return error.code\n"
        "mine = '/runs/' + os.environ['MOORAGE_WORKLOAD']\n"
        "print('answers', ask('GET', mine, None), ask('POST', '/runs/run-other/progress'), ask('GET', '/jobs', None),\n"
        "      ask('PUT', mine + '/outputs/evil.sh', b'x'), ask('DELETE', mine, None))"
    )
    run_id = service.start_run(service.promote(notebook(code)))
    service.until(run_id, "succeeded", "failed")
    assert "answers 200 404 403 404 403" in service.http.get(f"/runs/{run_id}/log").text
    assert service.http.post(f"/runs/{run_id}/progress", json={"sequence": 99, "cells": []}).status_code == 403
