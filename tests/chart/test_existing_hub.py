"""The chart for a hub that is there already: the service alone, and what hub and users' pods need to find one another."""

from pathlib import Path
from typing import Any

import pytest
from traitlets.config import Config

from moorage_hub.join import join
from moorage_service.settings import Settings
from moorage_spawners.launch.namespaces import UserNamespace, contents
from tests.chart.examples import JOINED
from tests.chart.pod_security import violations
from tests.chart.rendering import Chart, Rendered

THEIRS = {
    "hub": {"app": "jupyterhub", "component": "hub", "release": "theirs"},
    "proxy": {"app": "jupyterhub", "component": "proxy"},
}


@pytest.fixture
def rendered(chart: Chart) -> Rendered:
    return chart.render(JOINED)


def test_neither_hub_nor_proxy_are_made(rendered: Rendered) -> None:
    assert {each["metadata"]["name"] for each in rendered.of("Deployment")} == {"moorage-service"}
    assert {each["metadata"]["name"] for each in rendered.of("Service")} == {"moorage-service", "moorage-proxy-pods"}
    assert {each["metadata"]["name"] for each in rendered.of("PersistentVolumeClaim")} == {"moorage-service"}
    assert "moorage-hub" not in {each["metadata"]["name"] for each in rendered.of("ServiceAccount")}
    assert {name: broken for name, pod in rendered.pods() if (broken := violations(pod))} == {}


def test_policies_know_their_pods(rendered: Rendered) -> None:
    (policy,) = rendered.of("NetworkPolicy")
    peers = [
        each["podSelector"]["matchLabels"] for each in policy["spec"]["ingress"][0]["from"] if "podSelector" in each
    ]
    assert peers == [THEIRS["proxy"], THEIRS["hub"]]
    assert rendered.one("Service", "moorage-proxy-pods")["spec"]["selector"] == THEIRS["proxy"]


def test_so_do_those_of_users_namespaces(rendered: Rendered, tmp_path: Path) -> None:
    cluster = Settings(**rendered.settings("service"), state=tmp_path).kubernetes
    assert cluster is not None
    made = contents(UserNamespace(name="moorage-ada", owner="us-1"), cluster.release_settings())
    policies = {each["metadata"]["name"]: each["spec"] for each in made if each["kind"] == "NetworkPolicy"}
    service, hub = (each["to"][0]["podSelector"]["matchLabels"] for each in policies["allow-moorage"]["egress"])
    assert service["app.kubernetes.io/component"] == "service"
    assert hub == THEIRS["hub"]
    (inwards,) = policies["allow-proxy"]["ingress"]
    assert [each["podSelector"]["matchLabels"] for each in inwards["from"]] == [THEIRS["proxy"], THEIRS["hub"]]


def test_the_hubs_account_gets_the_spawners_rights(rendered: Rendered) -> None:
    (rule,) = [
        each for each in rendered.of("ValidatingAdmissionPolicy") if each["metadata"]["name"] == "moorage-bindings"
    ]
    assert "? 'hub' : 'moorage-service'" in str(rule["spec"]["validations"]).replace('"', "'").replace("\\'", "'")
    assert rendered.settings("service")["kubernetes"]["hub_account"] == "hub"


def test_what_it_writes_for_the_hub_is_what_the_hub_joins_by(rendered: Rendered, tmp_path: Path) -> None:
    (secret,) = [each for each in rendered.of("Secret") if each["metadata"]["name"] == "moorage-hub-settings"]
    (tmp_path / "settings.yaml").write_text(secret["stringData"]["settings.yaml"])
    (tmp_path / "secrets").mkdir()
    for name in ("hub-to-service", "service-to-hub"):
        (tmp_path / "secrets" / name).write_text(f"{name}-token\n")
    c: Any = Config()
    join(c, tmp_path)
    assert c.ProjectSpawner.service_url == "http://moorage-service.moorage-system:8090/services/moorage"
    assert c.ProjectSpawner.hub_connect_url == "http://hub.moorage-system:8081"
    assert c.ProjectSpawner.address == "https://jupyter.example.org"
    assert c.ProjectKubeSpawner.port == 8888


def test_the_notes_say_what_is_still_to_do(chart: Chart, tmp_path: Path) -> None:
    notes = chart.notes(JOINED, tmp_path / "chart")
    assert "It joins the hub at http://hub.moorage-system:8081, whose configuration has to know it" in notes
    assert "moorage-hub link" not in notes
    assert "port-forward" not in notes
