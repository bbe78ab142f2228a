"""A hub that somebody runs already joins by one call at the end of its configuration, and loses nothing of its own."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jupyterhub.app import JupyterHub
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from kubespawner import KubeSpawner
from traitlets.config import Config

from moorage_hub.errors import BadSettings
from moorage_hub.join import join
from moorage_spawners.beside import beside, is_ours
from moorage_spawners.kube import ProjectKubeSpawner
from tests.cluster_settings import CLUSTER

HUB = {
    "platform": "kubernetes", "public_url": "https://jupyter.example.org", "origins": "one", "port": 8000, "hub_port": 8081,
    "proxy_api_port": 8001, "service_port": 8090, "hub_connect_url": "http://hub.lab:8081",
    "service_connect_url": "http://moorage-service.lab:8090", "kubernetes": CLUSTER,
}  # fmt: skip
SECRETS = {"hub-to-service": "to-the-service", "service-to-hub": "to-the-hub"}


def mounted(folder: Path, **changed: Any) -> Path:
    """As the chart's Secrets are in the hub's pod, which can't write there."""
    (folder / "secrets").mkdir()
    (folder / "settings.yaml").write_text(yaml.safe_dump({"hub": {**HUB, **changed}}))
    for name, token in SECRETS.items():
        (folder / "secrets" / name).write_text(f"{token}\n")
    return folder


def taken(c: Config) -> Any:
    """The hub as JupyterHub makes it of this configuration, not started."""
    return JupyterHub(config=c)


def test_it_adds_service_and_role_to_those_there_are(tmp_path: Path) -> None:
    c: Any = Config()
    c.JupyterHub.services = [{"name": "culler", "api_token": "x"}]
    c.JupyterHub.load_roles = [{"name": "culling", "scopes": ["list:users"], "services": ["culler"]}]
    c.JupyterHub.extra_user_scopes = {"access:services"}
    join(c, mounted(tmp_path))
    hub = taken(c)
    assert [each["name"] for each in hub.services] == ["culler", "moorage"]
    assert hub.services[1]["api_token"] == "to-the-hub"
    assert [each["name"] for each in hub.load_roles] == ["culling", "moorage-service"]
    assert hub.extra_user_scopes == {"access:services", "access:services!service=moorage"}
    assert hub.services[1]["url"] == "http://moorage-service.lab:8090"
    assert hub.allow_named_servers


def test_a_hub_that_set_none_of_these_gets_them(tmp_path: Path) -> None:
    c: Any = Config()
    join(c, mounted(tmp_path))
    hub = taken(c)
    assert [each["name"] for each in hub.services] == ["moorage"]
    assert hub.extra_user_scopes == {"access:services!service=moorage"}
    assert [path for path, _ in hub.extra_handlers] == [r"/api/sign-out/([^/]+)"]


def test_what_it_sets_for_projects_touches_no_other_server(tmp_path: Path) -> None:
    c: Any = Config()
    c.KubeSpawner.start_timeout = 77
    c.KubeSpawner.environment = {"THEIRS": "1"}
    c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
    join(c, mounted(tmp_path))
    assert set(c.KubeSpawner) == {"start_timeout", "environment"}
    assert "Spawner" not in c
    ours = ProjectKubeSpawner(config=c)
    assert (ours.start_timeout, ours.environment, ours.token_file) == (
        120,
        {},
        str(tmp_path / "secrets/hub-to-service"),
    )
    assert ours.hub_connect_url == "http://hub.lab:8081"


class Server:
    def __init__(self, name: str, state: dict[str, Any] | None = None) -> None:
        self.name, self.state = name, state


class Theirs(KubeSpawner):  # type: ignore[misc]  # jupyterhub carries no types
    """What a hub's own class may be: made without asking a cluster."""

    def __init__(self, **given: Any) -> None:
        self.given = given


@pytest.mark.parametrize(
    ("name", "state", "ours"),
    [
        ("", None, False), ("", {"pod_name": "jupyter-ada"}, False), ("tide", None, True), ("tide", {}, True),
        ("tide", {"workload_id": "nb-1", "pod_name": "nb-1-1"}, True), ("tide", {"workload_id": ""}, True),
        ("mine", {"pod_name": "jupyter-ada--mine"}, False),
    ],
)  # fmt: skip
def test_named_servers_are_projects_and_the_others_stay_whose_they_were(
    name: str, state: dict[str, Any] | None, ours: bool
) -> None:
    assert is_ours(name, state) is ours
    if not ours:
        server = Server(name, state)
        made = beside(Theirs)(orm_spawner=server, user="ada")
        assert isinstance(made, Theirs)
        assert made.given == {"orm_spawner": server, "user": "ada"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, LocalProcessSpawner), ("simple", SimpleLocalProcessSpawner), (Theirs, Theirs)],
)
def test_whatever_the_hub_named_as_its_spawner_is_found(given: Any, expected: type, tmp_path: Path) -> None:
    c: Any = Config()
    if given is not None:
        c.JupyterHub.spawner_class = given
    join(c, mounted(tmp_path))
    assert c.JupyterHub.spawner_class.theirs is expected
    assert taken(c).spawner_class is c.JupyterHub.spawner_class


@pytest.mark.parametrize(
    ("changed", "theirs", "words"),
    [
        ({"origins": "per-user"}, {}, "has one origin for all: leave `subdomain_host` out there"),
        ({}, {"subdomain_host": "https://jupyter.example.org"}, "has one origin for all"),
        ({"kubernetes": None}, {}, "says nothing of a cluster"),
        ({}, {"base_url": "/jupyter/"}, "base_url is '/jupyter/', but the portal answers at /services/moorage/ alone"),
    ],
)
def test_what_can_not_be_joined_is_refused_in_words(
    changed: dict[str, Any], theirs: dict[str, Any], words: str, tmp_path: Path
) -> None:
    c: Any = Config()
    c.JupyterHub.update(theirs)
    with pytest.raises(BadSettings, match=words):
        join(c, mounted(tmp_path, **changed))


def test_nothing_mounted_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="mount the Secrets of Moorage's chart there"):
        join(Config(), tmp_path / "nowhere")
