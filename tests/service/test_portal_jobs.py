"""Promoting by the form, a job's page, and a run's."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage.wire import Parameter, RunProgress
from moorage.wire.jobs import CellProgress
from moorage_service.context import Context
from moorage_service.errors import BadRequest
from moorage_service.identity.callers import Caller
from moorage_service.jobs import outputs, runs
from moorage_service.portal import uploads, values
from moorage_service.settings import PREFIX
from moorage_service.store.tables import ProjectRow
from tests.service.conftest import Headers
from tests.service.jobs_bench import notebook
from tests.service.portal_bench import Visitor, sign_in, text_of

WORK = notebook(
    "print(rate)", parameters='rate: float = 0.5  # share of the data\nname = "north"\nfast = True\ntags = ["a"]'
)
AT = "/jobs/promote"
DAILY = {"cron": "0 6 * * *", "timezone": "Europe/Berlin", "missed": "skip", "overlap": "queue"}


@pytest.fixture
def ada_at(client: TestClient, context: Context, ada: Headers, project: ProjectRow) -> Visitor:
    return sign_in(client, context, ada, "ada")


def _files(content: bytes = WORK, **helpers: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [
        ("notebook", ("work.ipynb", content)),
        *(("helpers", (f"{name}.py", text)) for name, text in helpers.items()),
    ]


def _promote(visitor: Visitor, fields: dict[str, Any] | None = None, **more: Any) -> Any:
    given = {"project": "starter", **(fields or {})}
    return visitor.post(AT, given, referer=AT, files=more.get("files", _files()))


@pytest.fixture
def job(ada_at: Visitor) -> str:
    answer = _promote(ada_at, DAILY, files=_files(helper=b"x = 1"))
    assert answer.status_code == 303, text_of(answer.text)
    return str(answer.headers["location"].removeprefix(PREFIX))


def test_the_form_shows_parameters_while_it_is_filled_in(ada_at: Visitor) -> None:
    shown = ada_at.post(
        f"{AT}/preview", {"project": "starter", "param.rate": "0.7"}, referer=AT, files=_files(helper=b"")
    )
    assert shown.status_code == 200
    text = shown.text
    assert "new job" in text
    assert "helper.py, work.ipynb" in text
    assert 'name="param.rate" value="0.7"' in text, "what was typed stays"
    assert 'name="param.name" value="north"' in text
    assert "share of the data" in text
    assert "work.ipynb" not in ada_at.page("/jobs")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"{", "cannot be promoted"), (b"", "cannot be promoted"), (b'{"cells": 1}', "cannot be promoted")],
)
def test_what_is_no_notebook_is_said_in_the_preview_and_on_promoting(
    ada_at: Visitor, content: bytes, sentence: str
) -> None:
    for path in (AT, f"{AT}/preview"):
        answer = ada_at.post(path, {"project": "starter"}, referer=AT, files=_files(content))
        assert sentence in answer.text, path


def test_a_promoted_notebook_has_a_page_with_schedule_versions_and_parameters(ada_at: Visitor, job: str) -> None:
    page = ada_at.page(job)
    text = text_of(page)
    for piece in (
        "At 06:00 every day (Europe/Berlin)",
        "helper.py, work.ipynb",
        "Runs as ada",
        "share of the data",
        "No run yet",
    ):
        assert piece in text, piece
    assert '<option value="skip" selected>' in page
    assert '<option value="queue" selected>' in page
    assert "At 06:00 every day" in text_of(ada_at.page("/jobs"))
    assert "At 06:00 every day" in text_of(ada_at.page("/projects/starter"))


def test_values_that_were_changed_in_the_form_become_the_versions_defaults(ada_at: Visitor) -> None:
    fields = {"param.rate": "0.25", "param.name": "north", "param.fast": "false", "param.tags": '["b", "c"]'}
    at = _promote(ada_at, fields).headers["location"].removeprefix(PREFIX)
    version = ada_at.get(f"/api/v1{at}").json()["version"]
    assert {each["name"]: each["default"] for each in version["parameters"]} == {
        "rate": 0.25, "name": "north", "fast": False, "tags": ["b", "c"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"cron": "6 o'clock"}, "cron:"),
        ({"cron": "0 6 * * *", "timezone": "Mars/North"}, "timezone:"),
        ({"cron": "0 6 * * *", "missed": "cry"}, "missed: 'cry' is none of"),
        ({"param.rate": "high"}, "rate: 'high' is not of type float."),
        ({"param.tags": "a, b"}, "tags: 'a, b' is not of type list. Write it as JSON"),
        ({"name": "/etc"}, "name:"),
        ({"secrets": "NONE_SUCH"}, "secrets:"),
        ({"timeout_min": "soon"}, "Ends after: 'soon' is not a number."),
        ({"run_cpu": "0", "run_memory_gib": "1"}, "cpu: 0.0 is too little."),
        ({"with_cluster": "yes", "engine": "", "cpu": "1", "memory_gib": "1"}, "Engine: '' is none."),
        ({"project": "elsewhere"}, "There is no project 'elsewhere'"),
    ],
)
def test_a_promotion_that_cannot_be_makes_nothing_and_says_why(
    ada_at: Visitor, fields: dict[str, str], sentence: str
) -> None:
    answer = _promote(ada_at, fields)
    assert answer.status_code >= 400
    assert sentence in text_of(answer.text)
    assert "No job yet" in ada_at.page("/jobs")


def test_a_form_without_a_notebook_or_too_large_is_refused(ada_at: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "choose the notebook" in _promote(ada_at, files=[("helpers", ("x.py", b"1"))]).text
    monkeypatch.setattr(uploads, "LARGEST", 500)
    assert "may have 25 MiB together" in ada_at.send(AT, {"project": "starter"}, referer=AT, files=_files())


def test_the_schedule_is_previewed_in_words_with_its_next_fires(ada_at: Visitor) -> None:
    text = ada_at.page("/jobs/schedule-preview?cron=0+6+*+*+1-5&timezone=Europe/Berlin")
    assert "At 06:00 on Monday through Friday" in text
    assert text.count("<li>") == 5
    assert "alert" in ada_at.page("/jobs/schedule-preview?cron=99+*+*+*+*")
    assert "Run now" in ada_at.page("/jobs/schedule-preview?cron=")


def test_the_schedule_is_changed_paused_resumed_and_removed(ada_at: Visitor, job: str) -> None:
    hourly = {"cron": "0 * * * *", "timezone": "UTC"}
    assert "Scheduled:" in ada_at.send(f"{job}/schedule", hourly, referer=job, files={"none": ("", b"")})
    assert "paused" in text_of(ada_at.send(f"{job}/schedule/pause", referer=job))
    assert "Resumed." in ada_at.send(f"{job}/schedule/resume", referer=job)
    assert "no schedule any more" in ada_at.send(f"{job}/schedule/remove", referer=job)
    assert "no schedule to change" in ada_at.send(f"{job}/schedule/pause", referer=job)
    assert "cron: nothing was given" in ada_at.send(f"{job}/schedule", {"cron": ""}, referer=job)


def test_run_now_takes_the_values_of_the_form(ada_at: Visitor, job: str) -> None:
    answer = ada_at.post(f"{job}/run", {"param.rate": "0.9", "param.name": "north"}, referer=job)
    at = answer.headers["location"].removeprefix(PREFIX)
    page = text_of(ada_at.page(at))
    for piece in ("Run of work", "queued", "rate 0.9", "Asked for by hand.", "version 1", "Cancel run"):
        assert piece in page, piece
    assert "0.9" in ada_at.get(f"/api/v1{at}").text
    assert "is not of type float" in ada_at.send(f"{job}/run", {"param.rate": "?"}, referer=job)
    assert "asked to end" in ada_at.send(f"{at}/cancel", referer=at)


def _fail(context: Context, run_id: str) -> None:
    """As the run's own runner reports."""
    caller = Caller(user_id="", name="", admin=False, via="workload", workload_id=run_id, workload_kind="run")
    cells = [
        CellProgress(index=0, state="completed", source="a = 1", started_at="2026-11-21T06:00:00Z", ended_at="2026-11-21T06:00:01Z"),
        CellProgress(index=1, state="failed", source="1 / <b>0</b>"),
    ]  # fmt: skip
    runs.report(
        context, caller, run_id,
        RunProgress(sequence=1, cells=cells, error_name="ZeroDivisionError", error_value="division by zero", error_cell=1,
                    traceback="Cell In[2]\n\x1b[31mZeroDivisionError\x1b[0m"),
    )  # fmt: skip
    upload = outputs.Upload(context.settings, run_id, "run.log")
    upload.write(b"line one\n<script>line two</script>\n")
    upload.finish()


def test_a_run_shows_its_cells_its_failure_and_its_log(ada_at: Visitor, job: str) -> None:
    at = ada_at.post(f"{job}/run", {"x": "1"}, referer=job).headers["location"].removeprefix(PREFIX)
    _fail(ada_at.context, at.rpartition("/")[2])
    raw = ada_at.get(at).text
    page = text_of(raw)
    for piece in ("1 of 2", "ZeroDivisionError : division by zero", "In cell 2:", "Cell In[2]", "line one", "run.log"):
        assert piece in page, piece
    assert "<b>0</b>" not in raw
    assert "<script>line" not in raw
    assert "\x1b" not in raw


def test_a_job_is_deleted(ada_at: Visitor, job: str) -> None:
    assert "The job is deleted." in ada_at.send(f"{job}/delete", referer=job)
    assert "No job yet" in ada_at.page("/jobs")
    assert ada_at.get(job).status_code in (200, 404)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", " 5 ", " 5 "), ("int", "-7", -7), ("float", "1e-3", 0.001), ("bool", "No", False), ("list", "[1]", [1]),
        ("dict", '{"a": 1}', {"a": 1}), ("any", "plain", "plain"), ("any", "5", 5),
    ],
)  # fmt: skip
def test_fields_are_read_by_the_parameters_type(kind: Any, text: str, value: object) -> None:
    assert values.changed([Parameter(name="p", type=kind)], {"p": text}) == {"p": value}


@pytest.mark.parametrize(("kind", "text"), [("int", "1.5"), ("int", "x"), ("bool", "maybe"), ("dict", "{a}")])
def test_a_field_of_another_type_names_itself(kind: Any, text: str) -> None:
    with pytest.raises(BadRequest, match=r"^p: ") as refused:
        values.changed([Parameter(name="p", type=kind)], {"p": text})
    assert refused.value.field == "p"


def test_a_default_left_alone_is_no_value() -> None:
    default = {"a": [1, None]}
    declared = [Parameter(name="p", type="dict", default=default), Parameter(name="q", type="str", default=None)]
    assert values.changed(declared, {"p": json.dumps(default), "q": ""}) == {}
