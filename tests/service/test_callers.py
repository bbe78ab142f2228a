"""Who the service takes a caller for."""

from fastapi.testclient import TestClient

from tests.service.databases import each_database

Headers = dict[str, str]


@each_database
def test_a_hub_token_is_its_user(client: TestClient, ada: Headers) -> None:
    answer = client.get("/api/v1/me", headers=ada)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["user"]["name"], answer.json()["via"]) == ("ada", "hub")
