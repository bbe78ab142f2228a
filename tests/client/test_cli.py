"""The command says what it did in sentences, or as one JSON document; errors are sentences with an exit code."""

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorage.cli import run
from moorage.cli.session import Session
from moorage.environment import Surroundings
from tests.fakes.service_api import FakeServiceApi, problem

JOB: dict[str, Any] = {
    "id": "j1",
    "name": "search",
    "project": "starter",
    "stage": "prototype",
    "run_as": "ada",
    "schedule": {"cron": "0 6 * * *", "timezone": "Europe/Berlin", "missed": "skip", "overlap": "queue"},
    "schedule_words": "At 06:00 every day (Europe/Berlin)",
    "next_fire_at": "2026-11-22T05:00:00Z",
    "version": {
        "id": "v1", "number": 1, "state": "active", "notebook": "search.ipynb", "files": ["search.ipynb", "helper.py"],
        "source": "d" * 64, "environment": "e" * 64, "cluster": None, "size": {"cpu": 1, "memory": 2**30},
        "parameters": [{"name": "trials", "type": "int", "default": 8}, {"name": "label", "type": "str", "default": ""}],
        "created_by": "ada", "created_at": "2026-11-21T06:00:00Z",
    },
}  # fmt: skip
RUN: dict[str, Any] = {
    "id": "r1", "kind": "run", "name": "search", "owner": "ada", "project": "starter", "phase": "running",
    "created_at": "2026-11-21T06:00:00Z", "job": "j1", "version": 1, "trigger": "manual",
    "cells": [{"index": 0, "state": "completed", "source": "import ray"}, {"index": 1, "state": "failed", "source": "1/0"}],
}  # fmt: skip


class Terminal:
    """Runs command lines against the fake service."""

    def __init__(self, api: FakeServiceApi) -> None:
        self.api = api
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        out, err = io.StringIO(), io.StringIO()
        around = Surroundings(project="starter", public_url="http://hub.test", api_url="http://a/services/moorage")
        code = run(arguments, Session(client=self.api.client(), around=around, out=out, err=err, poll_s=0.0))
        self.out, self.err = out.getvalue(), err.getvalue()
        return code

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def sent(self, method: str, path: str) -> Any:
        """The body of the last such request."""
        found = [one for one in self.api.requests if one.method == method and one.url.path.endswith(path)]
        assert found, f"nothing sent {method} {path}"
        return json.loads(found[-1].content) if found[-1].content else None


@pytest.fixture
def api() -> FakeServiceApi:
    return FakeServiceApi()


@pytest.fixture
def moorage(api: FakeServiceApi) -> Terminal:
    return Terminal(api)


def answer(api: FakeServiceApi, method: str, path: str, *bodies: Any, status: int = 200) -> None:
    """Answer a route with these bodies in turn, the last one from then on."""
    left = list(bodies)

    def reply(_request: httpx.Request) -> httpx.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, content=body) if isinstance(body, bytes) else httpx.Response(status, json=body)

    api.routes[method, path] = reply


def write_notebook(folder: Path, *sources: str) -> Path:
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "id": f"c{index}",
            "metadata": {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for index, source in enumerate(sources)
    ]
    path = folder / "search.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return path


def test_clusters_are_listed_for_people_and_as_json(api: FakeServiceApi, moorage: Terminal) -> None:
    api.add_cluster("c1", "ray-1", phase="ready", workers=2)
    assert moorage("cluster", "list") == 0
    assert "ray-1" in moorage.out
    assert "2 of 2" in moorage.out
    assert moorage("cluster", "list", "--json") == 0
    assert moorage.json[0]["phase"] == "ready"


def test_an_empty_list_says_what_to_do_next(moorage: Terminal) -> None:
    assert moorage("cluster", "list") == 0
    assert "moorage cluster create" in moorage.out


def test_a_cluster_is_created_from_one_word_and_followed(api: FakeServiceApi, moorage: Terminal) -> None:
    answer(api, "GET", "/clusters/c1", api.add_cluster("c1", "ray-1", phase="ready"))
    api.clusters.clear()
    assert moorage("cluster", "create", "ray:1-2:1.5:2GiB", "--wait") == 0
    assert moorage.sent("POST", "/clusters")["spec"] == {
        "engine": "ray", "min_workers": 1, "max_workers": 2, "worker": {"cpu": 1.5, "memory": 2**31, "gpu": 0},
    }  # fmt: skip
    assert "ready" in moorage.out


@pytest.mark.parametrize(
    "spec", ["ray", "spark:1:1:1GiB", "ray:x:1:1GiB", "ray:2-1:1:1GiB", "ray:1:0:1GiB", "ray:1:1:1"]
)
def test_a_spec_that_is_none_is_a_sentence_with_exit_code_2(moorage: Terminal, spec: str) -> None:
    assert moorage("cluster", "create", spec) == 2
    assert moorage.err.strip().endswith(".")
    assert not moorage.api.requests


def test_a_cluster_is_kept_for_a_while(api: FakeServiceApi, moorage: Terminal) -> None:
    api.add_cluster("c1", "ray-1", phase="ready")
    assert moorage("cluster", "keep", "ray-1") == 0
    assert "Cluster ray-1 goes on when its notebook ends." in moorage.out
    assert moorage("cluster", "keep", "ray-1", "--for", "8h", "--on-notebook-end", "stop") == 0
    assert (api.clusters["c1"]["keep_for_s"], api.clusters["c1"]["on_notebook_end"]) == (28800.0, "stop")
    assert moorage("cluster", "show", "ray-1") == 0
    assert "ends with its notebook" in moorage.out
    assert moorage("cluster", "keep", "ray-1", "--on-notebook-end", "burn") == 2
    assert "write stop or keep" in moorage.err


def test_a_refusal_is_shown_with_rule_and_holder(api: FakeServiceApi, moorage: Terminal) -> None:
    api.refuse_creates = True
    assert moorage("cluster", "create", "ray:1:1:1GiB") == 1
    assert "Rule: ada may hold at most 1 core" in moorage.err
    assert "Held: 1 core by notebook starter of ada" in moorage.err
    assert moorage("cluster", "create", "ray:1:1:1GiB", "--json") == 1
    assert json.loads(moorage.err)["error"]["refusal"]["used"] == 1.0


def test_a_name_that_is_not_there_names_those_that_are(api: FakeServiceApi, moorage: Terminal) -> None:
    api.add_cluster("c1", "ray-1")
    assert moorage("cluster", "stop", "ray-2") == 1
    assert moorage.err.strip() == "There is no cluster 'ray-2' here. There are: ray-1."


def test_attach_keeps_credentials_back_unless_asked(api: FakeServiceApi, moorage: Terminal) -> None:
    api.add_cluster("c1", "ray-1", phase="ready")
    api.attach = {"engine": "ray", "address": "10.0.0.1:6379", "token": "s3cret"}
    assert moorage("cluster", "attach", "ray-1", "--json") == 0
    assert "s3cret" not in moorage.out
    assert moorage("cluster", "attach", "ray-1", "--json", "--credentials") == 0
    assert moorage.json["token"] == "s3cret"


def test_promote_sends_the_notebook_with_its_helper_and_typed_parameters(
    api: FakeServiceApi, moorage: Terminal, tmp_path: Path
) -> None:
    answer(api, "POST", "/jobs/inspect", {
        "name": "search", "notebook": "search.ipynb", "files": [], "source": "d", "new_job": True, "new_version": True,
        "parameters": JOB["version"]["parameters"],
    })  # fmt: skip
    answer(api, "POST", "/jobs", JOB, status=201)
    notebook = write_notebook(tmp_path, "trials = 8", "import helper")
    (tmp_path / "helper.py").write_text("x = 1\n")
    code = moorage(
        "job", "promote", str(notebook), "--schedule", "0 6 * * *", "--timezone", "Europe/Berlin", "--cluster",
        "ray:1-2:1:2GiB", "--param", "trials=5", "--param", "label=5", "--secret", "KEY", "--timeout", "2h",
    )  # fmt: skip
    assert code == 0, moorage.err
    body = moorage.sent("POST", "/jobs")
    assert [one["path"] for one in body["files"]] == ["helper.py", "search.ipynb"]
    assert body["parameters"] == {"trials": 5, "label": "5"}
    assert body["schedule"]["cron"] == "0 6 * * *"
    assert (body["secrets"], body["timeout_s"], body["cluster"]["max_workers"]) == (["KEY"], 7200, 2)
    assert "At 06:00 every day" in moorage.out
    assert "Next run: 2026-11-22T05:00:00Z" in moorage.out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["nothere.ipynb"], "nothere.ipynb"),
        (["{notebook}", "--schedule", "0 6 * * *", "--missed", "never"], "run_latest"),
        (["{notebook}", "--param", "trials"], "name=value"),
        (["{notebook}", "--timeout", "soon"], "12h"),
        (["{notebook}", "--cpu", "1"], "--memory"),
        (["{notebook}", "--include", "../x"], "../x"),
        (["{notebook}", "--cluster", "ray"], "ray:1-2:1:2GiB"),
    ],
)
def test_a_promotion_that_cannot_be_is_a_sentence(
    moorage: Terminal, tmp_path: Path, options: list[str], word: str
) -> None:
    notebook = write_notebook(tmp_path, "1")
    assert moorage("job", "promote", *[one.format(notebook=notebook) for one in options]) == 2
    assert word in moorage.err
    assert "Traceback" not in moorage.err


def test_a_run_is_followed_to_its_failure(api: FakeServiceApi, moorage: Terminal) -> None:
    answer(api, "GET", "/jobs", [JOB])
    answer(api, "GET", "/jobs/j1", JOB)
    answer(api, "POST", "/jobs/j1/runs", RUN, status=202)
    ended = {
        **RUN, "phase": "failed", "error_name": "ZeroDivisionError", "error_value": "division by zero", "error_cell": 1,
        "outputs": ["notebook.html"],
    }  # fmt: skip
    answer(api, "GET", "/runs/r1", RUN, ended)
    assert moorage("job", "run", "search", "--param", "trials=3", "--wait") == 1
    assert moorage.sent("POST", "/jobs/j1/runs") == {"parameters": {"trials": 3}}
    assert "[2/2] 1/0" in moorage.err
    assert "Failed in cell 2: ZeroDivisionError: division by zero" in moorage.out


def test_a_runs_cells_are_counted_without_those_of_text(api: FakeServiceApi, moorage: Terminal) -> None:
    cells = [{"index": index, "state": "completed", "source": f"step {index}"} for index in (1, 3)]
    answer(api, "GET", "/runs/r1", {**RUN, "phase": "succeeded", "reason": "It ran to its end.", "cells": cells})
    assert moorage("run", "show", "r1", "--follow") == 0
    assert "[1/2] step 1\n[2/2] step 3" in moorage.err
    assert "Run r1: succeeded. It ran to its end.\n" in moorage.out


def test_outputs_are_saved_and_never_outside(api: FakeServiceApi, moorage: Terminal, tmp_path: Path) -> None:
    answer(api, "GET", "/runs/r1", {**RUN, "outputs": ["notebook.html", "../evil"]})
    answer(api, "GET", "/runs/r1/outputs/notebook.html", b"<html>")
    answer(api, "GET", "/runs/r1/outputs/../evil", b"x")
    assert moorage("run", "outputs", "r1", "notebook.html", "--to", str(tmp_path / "o")) == 0
    assert (tmp_path / "o" / "notebook.html").read_bytes() == b"<html>"
    assert moorage("run", "outputs", "r1", "--to", str(tmp_path / "o")) != 0
    assert not (tmp_path / "evil").exists()


def test_pausing_keeps_the_rest_of_the_schedule(api: FakeServiceApi, moorage: Terminal) -> None:
    answer(api, "GET", "/jobs", [JOB])
    answer(api, "PUT", "/jobs/j1/schedule", {})
    assert moorage("job", "pause", "search") == 0
    assert moorage.sent("PUT", "/schedule") == {**JOB["schedule"], "paused": True}


def test_a_notebook_that_runs_is_not_started_again(api: FakeServiceApi, moorage: Terminal) -> None:
    answer(api, "GET", "/notebooks", [])
    answer(api, "POST", "/projects/starter/notebook", {"url": "/user/ada/starter/"}, status=202)
    assert moorage("notebook", "start", "starter", "--cpu", "2") == 0
    assert "is starting" in moorage.out
    assert moorage.sent("POST", "/projects/starter/notebook")["cpu"] == 2
    notebook = {
        "id": "nb-1", "kind": "notebook", "name": "starter", "owner": "ada", "project": "starter", "phase": "ready",
        "created_at": "2026-01-01T00:00:00.000Z", "size": {"cpu": 1, "memory": 2**31}, "environment": "e",
        "url": "/user/ada/starter/",
    }  # fmt: skip
    answer(api, "GET", "/notebooks", [notebook])
    assert moorage("notebook", "start", "starter", "--cpu", "2") == 0
    assert "runs already, with 1 core, 2 GiB" in moorage.out
    assert len([one for one in api.requests if one.method == "POST"]) == 1


def test_a_limit_is_set_for_one_scope(api: FakeServiceApi, moorage: Terminal) -> None:
    limit = {"id": "l1", "scope": "user", "name": "ada", "sharing": "each", "resource": "memory", "amount": 2**33}
    answer(api, "POST", "/limits", {**limit, "text": "ada may hold at most 8 GiB"}, status=201)
    assert moorage("limits", "set", "memory", "8GiB", "--user", "ada", "--window", "7d", "--why", "course") == 0
    assert moorage.sent("POST", "/limits") == {
        "scope": "user", "name": "ada", "sharing": "each", "resource": "memory", "amount": 2.0**33 * 3600,
        "window_s": 604800, "why": "course",
    }  # fmt: skip
    assert "ada may hold at most 8 GiB" in moorage.out
    assert moorage("limits", "set", "cpu", "1") == 2
    assert moorage("limits", "set", "cpu", "1", "--user", "a", "--everyone") == 2
    assert moorage("limits", "set", "cpu", "lots", "--everyone") == 2


def test_a_build_is_followed_line_by_line(api: FakeServiceApi, moorage: Terminal, tmp_path: Path) -> None:
    (tmp_path / "moorage.yaml").write_text("name: x\n")
    (tmp_path / "a.py").write_text("1\n")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("")
    build = {"id": "b1", "project": "mine", "state": "building"}
    answer(api, "POST", "/projects", {"id": "p1", "slug": "mine", "name": "x", "role": "owner"}, status=201)
    answer(api, "PUT", "/projects/mine/files", {})
    answer(api, "POST", "/projects/mine/builds", {**build, "state": "queued"}, status=202)
    answer(api, "GET", "/builds/b1", build, {**build, "state": "failed", "error": "No package nosuch exists."})
    answer(api, "GET", "/builds/b1/log", b"resolving\nhalf a li", b"half a line\n", b"")
    assert moorage("project", "new", "mine", str(tmp_path)) == 1
    assert "resolving" in moorage.err
    assert "half a line" in moorage.err
    assert "No package nosuch exists." in moorage.out
    sent = next(one for one in api.requests if one.url.path.endswith("/files"))
    assert b"__pycache__" not in sent.content
    assert b"a.py" in sent.content


def test_a_long_log_of_a_run_is_printed_to_its_end(moorage: Terminal, api: FakeServiceApi) -> None:
    answer(api, "GET", "/runs/r1/log", "begins, é".encode()[:-1], "é".encode()[1:] + b" goes on\nends\n", b"")
    assert moorage("run", "log", "r1") == 0
    assert moorage.out == "begins, é goes on\nends\n"
    assert [one.url.params["offset"] for one in api.requests] == ["0", "9", "24"]


def test_a_folder_without_manifest_shows_one(moorage: Terminal, tmp_path: Path) -> None:
    assert moorage("project", "new", "mine", str(tmp_path)) == 2
    assert "packages:" in moorage.err


def test_a_secret_comes_from_standard_input_only(
    api: FakeServiceApi, moorage: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(api, "PUT", "/me/secrets/KEY", {}, status=204)
    monkeypatch.setattr("sys.stdin", io.StringIO("v4lue\n"))
    assert moorage("secret", "set", "KEY") == 0
    assert moorage.sent("PUT", "/me/secrets/KEY") == {"value": "v4lue"}
    assert "v4lue" not in moorage.out + moorage.err
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert moorage("secret", "set", "KEY") == 2


def test_what_a_service_says_is_passed_on(api: FakeServiceApi, moorage: Terminal) -> None:
    api.next_replies = [problem(403, "forbidden", "Only an admin may do this.")]
    assert moorage("users", "list") == 1
    assert moorage.err.strip() == "Only an admin may do this."


def test_a_user_is_signed_out_everywhere(api: FakeServiceApi, moorage: Terminal) -> None:
    api.next_replies = [httpx.Response(204)]
    assert moorage("users", "sign-out", "ada", "--why", "lost laptop") == 0
    assert moorage.out.strip() == "ada is signed out everywhere."
    assert moorage.sent("POST", "/users/ada/sign-out") == {"why": "lost laptop"}


def test_names_with_brackets_are_shown_as_they_are(api: FakeServiceApi, moorage: Terminal) -> None:
    api.add_cluster("c1", "ray [bold]x[/bold]", phase="starting", reason="waits for [gpu]")
    assert moorage("cluster", "list") == 0
    assert "ray [bold]x[/bold]" in moorage.out
    assert moorage("cluster", "show", "c1") == 0
    assert "waits for [gpu]" in moorage.out


def test_usage_errors_are_exit_code_2(moorage: Terminal) -> None:
    assert moorage("cluster", "create") == 2
    assert moorage("nonsense") == 2
    assert moorage("cluster", "list", "--nonsense") == 2


def test_every_command_takes_json_and_has_help(moorage: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    groups = {
        "": ["me", "usage", "use", "audit", "health", "schema"],
        "build": ["list", "log", "cancel"],
        "cluster": ["options", "create", "list", "show", "stop", "attach", "log"],
        "job": ["promote", "list", "show", "run", "runs", "schedule", "pause", "resume", "delete"],
        "limits": ["list", "set", "remove"],
        "notebook": ["list", "start", "stop"],
        "project": ["list", "new", "build", "show", "delete", "members"],
        "run": ["list", "show", "log", "cancel", "outputs"],
        "secret": ["list", "set", "remove"],
        "users": ["list", "set", "sign-out"],
        "workload": ["list", "events", "stop"],
    }
    for group, names in groups.items():
        for name in names:
            assert moorage(*([group] if group else []), name, "--help") == 0
            assert "--json" in capsys.readouterr().out, (group, name)
