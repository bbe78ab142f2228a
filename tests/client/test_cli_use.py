"""Use over time, the audit and builds in a terminal; and that each call a person can make has its command."""

from inspect import getmembers, isfunction
from pathlib import Path
from typing import Any

from moorage import calls, cli
from tests.client import test_cli
from tests.client.test_cli import Terminal, answer
from tests.fakes.service_api import FakeServiceApi

api, moorage = test_cli.api, test_cli.moorage

USE: dict[str, Any] = {
    "resource": "cpu", "unit": "core-hours", "by": "project", "timezone": "UTC", "total": 12.0,
    "edges": ["2026-11-20T06:00:00Z", "2026-11-20T12:00:00Z", "2026-11-20T18:00:00Z"], "until": "2026-11-20T17:00:00Z",
    "lines": [{"name": "starter", "total": 9.0, "amounts": [8.0, 1.0]}, {"name": "den", "total": 3.0, "amounts": [0.0, 3.0]}],
}  # fmt: skip


def test_use_over_time_is_a_table_with_a_bar_for_each_bucket(moorage: Terminal, api: FakeServiceApi) -> None:
    answer(api, "GET", "/me/use", USE)
    assert moorage("use", "--days", "1", "--timezone", "Europe/Berlin") == 0
    assert "starter" in moorage.out
    assert "75%" in moorage.out
    assert "█▂" in moorage.out
    assert "Together 12.00 core-hours." in moorage.out
    assert dict(api.requests[-1].url.params) == {
        "resource": "cpu",
        "by": "project",
        "days": "1",
        "timezone": "Europe/Berlin",
    }
    answer(api, "GET", "/me/use", {**USE, "total": 0.0, "lines": []})
    assert moorage("use") == 0
    assert "No cpu was held in this time." in moorage.out


def test_of_everybody_by_user_and_as_the_services_csv(moorage: Terminal, api: FakeServiceApi) -> None:
    answer(api, "GET", "/use", USE)
    assert moorage("use", "--everyone", "--json") == 0
    assert moorage.json["lines"][0]["name"] == "starter"
    assert api.requests[-1].url.params["by"] == "user"
    assert moorage("use", "--csv", "--json") == 2
    assert "not both" in moorage.err


def test_the_audit_is_chosen_and_shown_with_before_and_after(moorage: Terminal, api: FakeServiceApi) -> None:
    entry = {
        "id": 7, "at": "2026-11-21T06:00:00Z", "actor": "root", "action": "user.change", "target": "bob", "before": {"uid": None},
        "after": {"uid": 1001}, "why": "asked",
    }  # fmt: skip
    answer(api, "GET", "/audit", [entry])
    assert moorage("audit", "--action", "user", "--older-than", "9") == 0
    for piece in ("uid: None", "uid: 1001", "asked"):
        assert piece in moorage.out
    assert dict(api.requests[-1].url.params) == {"most": "50", "action": "user", "older_than": "9"}


def test_builds_are_listed_read_and_cancelled(moorage: Terminal, api: FakeServiceApi) -> None:
    answer(
        api,
        "GET",
        "/projects/starter/builds",
        [{"id": "bu-1", "project": "starter", "state": "failed", "error": "No such package."}],
    )
    assert moorage("build", "list") == 0
    assert "No such package." in moorage.out
    answer(api, "GET", "/builds/bu-1/log", b"Resolving\n", b"failed\n", b"")
    assert moorage("build", "log", "bu-1") == 0
    assert moorage.out == "Resolving\nfailed\n"
    answer(api, "DELETE", "/builds/bu-1", b"", status=204)
    assert moorage("build", "cancel", "bu-1") == 0
    assert "asked to end" in moorage.out


def test_a_projects_files_are_put_into_a_new_folder(moorage: Terminal, api: FakeServiceApi, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert moorage("project", "files", "starter", "--to", str(tmp_path / "here")) == 2
    assert "is there already" in moorage.err
    answer(api, "GET", "/projects/starter/files", b"no tar", b"", status=200)
    assert moorage("project", "files", "starter", "--to", str(tmp_path / "new")) == 2
    assert not (tmp_path / "new").exists()
    assert moorage("project", "files", "starter", "--to", str(tmp_path / "new")) == 0
    assert (tmp_path / "new").is_dir()


# What programs say: the hub's spawner, a cluster's agent, a run's runner. `create_limit` changes a limit, too.
OF_PROGRAMS = {"admit_notebook", "observe_notebook", "forget_notebook", "report_condition", "report", "report_run", "put_run_output"}
ELSEWHERE = {"set_limit"}


def test_each_call_that_a_person_can_make_has_its_command() -> None:
    source = "".join(path.read_text() for path in Path(cli.__file__).parent.glob("*.py"))
    there = {
        name
        for name, found in getmembers(calls, isfunction)
        if found.__module__ == calls.__name__ and not name.startswith("_")
    }
    assert {name for name in there if f"calls.{name}" not in source} == OF_PROGRAMS | ELSEWHERE
