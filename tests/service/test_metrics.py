"""What an operator can ask without a credential: numbers, and nobody's names."""

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from moorage_service.context import Context
from moorage_service.store.tables import ProjectRow
from tests.service.databases import each_database
from tests.service.world import make_world

Headers = dict[str, str]


def scrape(client: TestClient) -> dict[tuple[str, str], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name, ",".join(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


@each_database
def test_metrics_say_what_is_lent_held_and_alive(
    client: TestClient, context: Context, ada: Headers, project: ProjectRow
) -> None:
    make_world(context, "ada", "adas")
    found = scrape(client)
    assert found["moorage_capacity", "cpu"] == 8
    assert found["moorage_held", "cpu"] == 0.3
    assert found["moorage_held", "clusters"] == 1
    assert found["moorage_workloads_by_phase", "notebook,ready"] == 1
    assert found["moorage_users", ""] == 3
    assert found["moorage_builds", "queued"] == 0
    assert found["moorage_schedules_due", ""] == 0


def test_refusals_and_requests_are_counted(client: TestClient, spawner: Headers, project: ProjectRow) -> None:
    before = scrape(client)
    body = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 100, "memory": 1 << 30}}
    assert client.post("/api/v1/notebooks", headers=spawner, json=body).status_code == 409
    after = scrape(client)
    for sample in (
        ("moorage_admissions_refused_total", "cpu,machine-cpu"),
        ("moorage_errors_total", "limit_refused,409"),
        ("moorage_http_request_seconds_count", "POST,409"),
    ):
        assert after[sample] == before.get(sample, 0) + 1


def test_metrics_and_health_name_nobody(client: TestClient, context: Context, ada: Headers) -> None:
    make_world(context, "ada", "adas")
    client.get("/api/v1/me", headers=ada)
    for path in ("/metrics", "/health"):
        assert "ada" not in client.get(path).text
