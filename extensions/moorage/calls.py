"""Every request of the REST API, as data. Each function here is one route; none of them sends anything.

`Client.send` and `AsyncClient.send` carry them out. The types are those of `moorage.wire`.
"""

from typing import Any
from urllib.parse import quote

from moorage import wire
from moorage.call import (
    JSON,
    Call,
    create,
    ended_too,
    json_body,
    new_key,
    put,
    query,
    quoted,
    read_bytes,
    read_nothing,
    read_text,
    reading,
    write,
)

# --- me -------------------------------------------------------------------------------------------------------------


def me() -> Call[wire.Me]:
    return Call(method="GET", path="/me", read=reading(wire.Me))


def my_usage(project: str | None = None) -> Call[wire.Usage]:
    return Call(method="GET", path="/me/usage", params=query(project=project), read=reading(wire.Usage))


def my_use(resource: str = "cpu", by: str = "project", days: int = 7, timezone: str = "UTC") -> Call[wire.Use]:
    """What I held over time, by project or kind."""
    params = query(resource=resource, by=by, days=days, timezone=timezone)
    return Call(method="GET", path="/me/use", params=params, read=reading(wire.Use))


def my_secrets() -> Call[list[wire.Secret]]:
    return Call(method="GET", path="/me/secrets", read=reading(list[wire.Secret]))


def set_my_secret(name: str, value: str) -> Call[None]:
    return write(f"/me/secrets/{quoted(name)}", wire.SecretRequest(value=value))


def remove_my_secret(name: str) -> Call[None]:
    return Call(method="DELETE", path=f"/me/secrets/{quoted(name)}", read=read_nothing)


# --- projects -------------------------------------------------------------------------------------------------------


def projects() -> Call[list[wire.Project]]:
    return Call(method="GET", path="/projects", read=reading(list[wire.Project]))


def project(slug: str) -> Call[wire.Project]:
    return Call(method="GET", path=f"/projects/{quoted(slug)}", read=reading(wire.Project))


def create_project(request: wire.ProjectRequest) -> Call[wire.Project]:
    return create("/projects", request, wire.Project)


def delete_project(slug: str) -> Call[None]:
    return Call(method="DELETE", path=f"/projects/{quoted(slug)}", read=read_nothing)


def put_manifest(slug: str, text: str) -> Call[None]:
    """Replaces the project's moorage.yaml."""
    return put(f"/projects/{quoted(slug)}/manifest", text.encode(), "text/plain; charset=utf-8")


def put_files(slug: str, tar: bytes) -> Call[None]:
    """Replaces the project's files by those of a tar archive."""
    return put(f"/projects/{quoted(slug)}/files", tar, "application/x-tar")


def project_files(slug: str) -> Call[bytes]:
    """The project's files as a tar archive; nothing when it has none."""
    return Call(method="GET", path=f"/projects/{quoted(slug)}/files", read=read_bytes)


def start_build(slug: str) -> Call[wire.Build]:
    return Call(method="POST", path=f"/projects/{quoted(slug)}/builds", key=new_key(), read=reading(wire.Build))


def builds(slug: str) -> Call[list[wire.Build]]:
    return Call(method="GET", path=f"/projects/{quoted(slug)}/builds", read=reading(list[wire.Build]))


def build(build_id: str) -> Call[wire.Build]:
    return Call(method="GET", path=f"/builds/{quoted(build_id)}", read=reading(wire.Build))


def cancel_build(build_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/builds/{quoted(build_id)}", read=read_nothing)


def build_log(build_id: str, offset: int = 0) -> Call[bytes]:
    """The log's bytes from `offset` on; the next offset is `offset` plus their number."""
    return Call(method="GET", path=f"/builds/{quoted(build_id)}/log", params=query(offset=offset), read=read_bytes)


def set_member(slug: str, user: str, role: str) -> Call[None]:
    path = f"/projects/{quoted(slug)}/members/{quoted(user)}"
    return write(path, {"role": role})


def remove_member(slug: str, user: str) -> Call[None]:
    return Call(method="DELETE", path=f"/projects/{quoted(slug)}/members/{quoted(user)}", read=read_nothing)


def project_secrets(slug: str) -> Call[list[wire.Secret]]:
    return Call(method="GET", path=f"/projects/{quoted(slug)}/secrets", read=reading(list[wire.Secret]))


def set_project_secret(slug: str, name: str, value: str) -> Call[None]:
    path = f"/projects/{quoted(slug)}/secrets/{quoted(name)}"
    return write(path, wire.SecretRequest(value=value))


def remove_project_secret(slug: str, name: str) -> Call[None]:
    return Call(method="DELETE", path=f"/projects/{quoted(slug)}/secrets/{quoted(name)}", read=read_nothing)


# --- notebooks ------------------------------------------------------------------------------------------------------


def start_notebook(slug: str, size: wire.Size) -> Call[None]:
    """Asks the hub, through the service, to start the caller's server in a project. Needs a hub credential."""
    path = f"/projects/{quoted(slug)}/notebook"
    return Call(method="POST", path=path, content=json_body(size), content_type=JSON, key=new_key(), read=read_nothing)


def notebooks(*, ended: bool = False) -> Call[list[wire.Notebook]]:
    """Mine, newest first; those that have ended only with `ended`."""
    return Call(method="GET", path="/notebooks", params=ended_too(ended), read=reading(list[wire.Notebook]))


def notebook(notebook_id: str) -> Call[wire.Notebook]:
    return Call(method="GET", path=f"/notebooks/{quoted(notebook_id)}", read=reading(wire.Notebook))


def stop_notebook(notebook_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/notebooks/{quoted(notebook_id)}", read=read_nothing)


def admit_notebook(request: wire.NotebookRequest, key: str | None = None) -> Call[wire.NotebookAdmission]:
    """For the hub's spawner. `key` stays the same over the attempts of one start."""
    return create("/notebooks", request, wire.NotebookAdmission, key)


def observe_notebook(notebook_id: str, observation: wire.NotebookObservation) -> Call[None]:
    """For the hub's spawner: a hint, so it may be sent again."""
    return Call(
        method="POST", path=f"/notebooks/{quoted(notebook_id)}/observations", content=json_body(observation),
        content_type=JSON, key=new_key(), read=read_nothing,
    )  # fmt: skip


def forget_notebook(forgotten: wire.NotebookForgotten) -> Call[None]:
    """For the hub, after its restart: what it asked for and did not start is given up."""
    return Call(
        method="POST", path="/notebooks/forgotten", content=json_body(forgotten), content_type=JSON, key=new_key(),
        read=read_nothing,
    )  # fmt: skip


def report_condition(condition: wire.NotebookCondition) -> Call[None]:
    """For a notebook server, with the notebook's own token. It may be sent again."""
    return Call(
        method="POST", path="/notebooks/condition", content=json_body(condition), content_type=JSON, key=new_key(),
        read=read_nothing,
    )  # fmt: skip


# --- clusters -------------------------------------------------------------------------------------------------------


def cluster_options(project: str | None = None) -> Call[wire.ClusterOptions]:
    params = query(project=project)
    return Call(method="GET", path="/clusters/options", params=params, read=reading(wire.ClusterOptions))


def clusters(project: str | None = None, *, ended: bool = False) -> Call[list[wire.Cluster]]:
    """Mine, newest first; those that have ended only with `ended`."""
    params = {**query(project=project), **ended_too(ended)}
    return Call(method="GET", path="/clusters", params=params, read=reading(list[wire.Cluster]))


def create_cluster(request: wire.ClusterRequest, key: str | None = None) -> Call[wire.Cluster]:
    return create("/clusters", request, wire.Cluster, key)


def cluster(cluster_id: str) -> Call[wire.Cluster]:
    return Call(method="GET", path=f"/clusters/{quoted(cluster_id)}", read=reading(wire.Cluster))


def stop_cluster(cluster_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/clusters/{quoted(cluster_id)}", read=read_nothing)


def change_cluster(cluster_id: str, change: wire.ClusterChange) -> Call[wire.Cluster]:
    """When it ends by itself. It sets values, so it may be sent again."""
    return Call(
        method="PATCH", path=f"/clusters/{quoted(cluster_id)}", content=json_body(change), content_type=JSON, key=new_key(),
        read=reading(wire.Cluster),
    )  # fmt: skip


def attach_cluster(cluster_id: str) -> Call[wire.Attach]:
    return Call(method="GET", path=f"/clusters/{quoted(cluster_id)}/attach", read=reading(wire.Attach))


def cluster_log(cluster_id: str) -> Call[str]:
    return Call(method="GET", path=f"/clusters/{quoted(cluster_id)}/log", read=read_text)


def report(report: wire.AgentReport) -> Call[wire.AgentOrders]:
    """For a cluster's agent. Not repeatable by itself: the next report says more."""
    content = json_body(report)
    return Call(
        method="POST", path="/agent/reports", content=content, content_type=JSON, read=reading(wire.AgentOrders)
    )


# --- jobs -----------------------------------------------------------------------------------------------------------


def promote(request: wire.PromoteRequest) -> Call[wire.Job]:
    return create("/jobs", request, wire.Job)


def inspect_job(request: wire.PromoteRequest) -> Call[wire.Inspection]:
    """What promoting this would make; nothing is made."""
    return create("/jobs/inspect", request, wire.Inspection)


def jobs(project: str | None = None) -> Call[list[wire.Job]]:
    return Call(method="GET", path="/jobs", params=query(project=project), read=reading(list[wire.Job]))


def job(job_id: str) -> Call[wire.Job]:
    return Call(method="GET", path=f"/jobs/{quoted(job_id)}", read=reading(wire.Job))


def delete_job(job_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/jobs/{quoted(job_id)}", read=read_nothing)


def set_schedule(job_id: str, schedule: wire.Schedule) -> Call[None]:
    path = f"/jobs/{quoted(job_id)}/schedule"
    return write(path, schedule)


def remove_schedule(job_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/jobs/{quoted(job_id)}/schedule", read=read_nothing)


def preview_schedule(schedule: wire.Schedule) -> Call[wire.SchedulePreview]:
    return create("/schedules/preview", schedule, wire.SchedulePreview)


def start_run(job_id: str, request: wire.RunRequest) -> Call[wire.Run]:
    path = f"/jobs/{quoted(job_id)}/runs"
    return create(path, request, wire.Run)


def job_runs(job_id: str) -> Call[list[wire.Run]]:
    return Call(method="GET", path=f"/jobs/{quoted(job_id)}/runs", read=reading(list[wire.Run]))


def runs(project: str | None = None) -> Call[list[wire.Run]]:
    return Call(method="GET", path="/runs", params=query(project=project), read=reading(list[wire.Run]))


def run(run_id: str) -> Call[wire.Run]:
    return Call(method="GET", path=f"/runs/{quoted(run_id)}", read=reading(wire.Run))


def cancel_run(run_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/runs/{quoted(run_id)}", read=read_nothing)


def run_output(run_id: str, name: str) -> Call[bytes]:
    return Call(method="GET", path=f"/runs/{quoted(run_id)}/outputs/{quote(name)}", read=read_bytes)


def put_run_output(run_id: str, name: str, content: bytes) -> Call[None]:
    """For a run's runner, with the run's own token."""
    path = f"/runs/{quoted(run_id)}/outputs/{quote(name)}"
    return Call(method="PUT", path=path, content=content, content_type="application/octet-stream", read=read_nothing)


def report_run(run_id: str, progress: wire.RunProgress) -> Call[None]:
    """For a run's runner. An older or repeated `sequence` is ignored, so it may be sent again."""
    path = f"/runs/{quoted(run_id)}/progress"
    return Call(
        method="POST", path=path, content=json_body(progress), content_type=JSON, key=f"{run_id}-{progress.sequence}",
        read=read_nothing,
    )  # fmt: skip


def run_log(run_id: str, offset: int = 0) -> Call[bytes]:
    """Some of the log's bytes from `offset` on; the next offset is `offset` plus their number. None: that is all so far."""
    return Call(method="GET", path=f"/runs/{quoted(run_id)}/log", params=query(offset=offset), read=read_bytes)


# --- workloads and administration -----------------------------------------------------------------------------------


def workloads(*, ended: bool = False) -> Call[list[wire.Workload]]:
    """Mine, newest first; those that have ended only with `ended`."""
    return Call(method="GET", path="/workloads", params=ended_too(ended), read=reading(list[wire.Workload]))


def workload_events(workload_id: str) -> Call[list[wire.Event]]:
    return Call(method="GET", path=f"/workloads/{quoted(workload_id)}/events", read=reading(list[wire.Event]))


def stop_workload(workload_id: str, why: str | None = None) -> Call[None]:
    return Call(method="DELETE", path=f"/workloads/{quoted(workload_id)}", params=query(why=why), read=read_nothing)


def limits() -> Call[list[wire.Limit]]:
    return Call(method="GET", path="/limits", read=reading(list[wire.Limit]))


def create_limit(request: wire.LimitRequest) -> Call[wire.Limit]:
    return create("/limits", request, wire.Limit)


def set_limit(limit_id: str, request: wire.LimitRequest) -> Call[wire.Limit]:
    path = f"/limits/{quoted(limit_id)}"
    return Call(method="PUT", path=path, content=json_body(request), content_type=JSON, read=reading(wire.Limit))


def remove_limit(limit_id: str, why: str | None = None) -> Call[None]:
    return Call(method="DELETE", path=f"/limits/{quoted(limit_id)}", params=query(why=why), read=read_nothing)


def health() -> Call[wire.Health]:
    return Call(method="GET", path="/health", read=reading(wire.Health))


def usage() -> Call[wire.Usage]:
    return Call(method="GET", path="/usage", read=reading(wire.Usage))


def use(resource: str = "cpu", by: str = "user", days: int = 7, timezone: str = "UTC") -> Call[wire.Use]:
    """What everybody held over time, by user, project or kind."""
    params = query(resource=resource, by=by, days=days, timezone=timezone)
    return Call(method="GET", path="/use", params=params, read=reading(wire.Use))


def as_csv(asked: Call[Any]) -> Call[str]:
    """The same question, answered as CSV: of `use`, `my_use` and `audit`."""
    return Call(method=asked.method, path=asked.path, params={**asked.params, "format": "csv"}, read=read_text)


def users() -> Call[list[wire.User]]:
    return Call(method="GET", path="/users", read=reading(list[wire.User]))


def change_user(name: str, changes: dict[str, Any]) -> Call[wire.User]:
    """`changes` holds the fields to change: uid, active, why. It sets values, so it may be sent again."""
    path = f"/users/{quoted(name)}"
    return Call(
        method="PATCH", path=path, content=json_body(changes), content_type=JSON, key=new_key(), read=reading(wire.User)
    )


def sign_out(name: str, why: str | None = None) -> Call[None]:
    """Ends all of a user's sessions; one that is out already is no error."""
    path = f"/users/{quoted(name)}/sign-out"
    return Call(
        method="POST", path=path, content=json_body({"why": why}), content_type=JSON, key=new_key(), read=read_nothing
    )


def audit(
    most: int = 200, *, actor: str | None = None, action: str | None = None, target: str | None = None,
    older_than: int | None = None,
) -> Call[list[wire.AuditEntry]]:  # fmt: skip
    """Who changed what, newest first. `action`: one, or all of a kind ("limit"); `target`: a part of it; `older_than`: an id."""
    params = query(most=most, actor=actor, action=action, target=target, older_than=older_than)
    return Call(method="GET", path="/audit", params=params, read=reading(list[wire.AuditEntry]))
