"""Settings: file and environment, and sentences for what cannot be used."""

import os
from pathlib import Path

import pytest
import yaml
from oauthenticator.generic import GenericOAuthenticator
from traitlets.config import Config

from moorage.origins import is_loopback
from moorage_hub.authenticator import PasswordAuthenticator
from moorage_hub.errors import BadSettings
from moorage_hub.install import install
from moorage_hub.settings import BUILT_IN, HubSettings, load, own_name
from moorage_hub.state import fixed_ports, prepare_state
from tests.cluster_settings import cluster_settings

REAL = {
    "authenticator": "generic-oauth",
    "authenticator_settings": {"GenericOAuthenticator": {"client_id": "c", "client_secret": "s", "allow_all": True}},
}


def write(state: Path, **hub: object) -> None:
    (state / "settings.yaml").write_text(yaml.safe_dump({"hub": hub, "service": {"anything": 1}}))


def test_every_setting_is_described() -> None:
    assert [name for name, field in HubSettings.model_fields.items() if not field.description] == []


def test_defaults_are_loopback_one_user_and_ports_that_stay(state: Path) -> None:
    first, again = load(state), load(state)
    assert first == again
    assert first.bind == "127.0.0.1"
    assert first.authenticator == BUILT_IN
    assert first.user == own_name()
    assert len({first.port, first.hub_port, first.proxy_api_port, first.service_port}) == 4
    assert first.public_url == f"http://{'localhost' if os.geteuid() == 0 else '127.0.0.1'}:{first.port}"


def test_the_environment_wins_over_the_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(state, poll_s=7, notebook_cpu=2)
    monkeypatch.setenv("MOORAGE_HUB_POLL_S", "9")
    settings = load(state)
    assert (settings.poll_s, settings.notebook_cpu) == (9, 2)


@pytest.mark.parametrize(
    ("hub", "sentence"),
    [
        ({"colour": "red"}, "colour: there is no such setting"),
        ({"port": "many"}, "port: "),
        ({"notebook_memory": "2 gallons"}, "notebook_memory '2 gallons' has the unknown unit 'gallons'"),
        ({"user": "Ada Lovelace"}, "user 'Ada Lovelace': write lower-case letters"),
        ({"bind": "0.0.0.0"}, "bind '0.0.0.0' lets other machines in"),
        ({"bind": "example.org"}, "bind 'example.org' lets other machines in"),
        ({"bind": "0.0.0.0", "authenticator": "dummy"}, "the authenticator 'dummy' is no real one"),
    ],
)
def test_a_bad_setting_is_a_sentence(state: Path, hub: dict[str, object], sentence: str) -> None:
    write(state, **hub)
    with pytest.raises(BadSettings) as caught:
        load(state)
    assert sentence in str(caught.value)
    assert "settings.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["nonsense", "postgres://ada:hush@db/hub", "mysql://ada:hush@db/hub", "sqlite:////hush.db", "postgresql://ada:hush@db:hush/hub",
     "postgresql+psycopg2://ada:hush@db/hub"],
)  # fmt: skip
def test_what_is_no_url_of_a_postgresql_is_refused_and_not_shown(state: Path, url: str) -> None:
    write(state, database_url=url)
    with pytest.raises(
        BadSettings, match="database_url: it is no URL of a PostgreSQL, such as postgresql\\+psycopg://"
    ) as caught:
        load(state)
    assert not {"hush", "nonsense"} & set(str(caught.value).replace("/", " ").replace(":", " ").split())


def test_a_database_url_that_is_no_text_is_not_shown_either(state: Path) -> None:
    write(state, database_url={"password": "hush"})
    with pytest.raises(BadSettings, match="database_url: ") as caught:
        load(state)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://ada:hush@db/hub", "postgresql+psycopg://ada:hush@db/hub"),
        ("postgresql+psycopg://ada@/hub?host=/run", "postgresql+psycopg://ada@/hub?host=/run"),
        ("", "sqlite:///{state}/database/hub.sqlite"),
    ],
)
def test_the_hub_keeps_its_records_where_database_url_says(
    state: Path, monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    monkeypatch.setenv("MOORAGE_HUB_DATABASE_URL", given)
    c = Config()
    install(c, load(state))
    assert c.JupyterHub.db_url == used.format(state=state)


def test_what_may_hold_an_authenticators_secret_is_not_shown(state: Path) -> None:
    write(state, authenticator_settings={"GenericOAuthenticator": "client_secret: hush"})
    with pytest.raises(BadSettings, match=r"authenticator_settings\.GenericOAuthenticator: ") as caught:
        load(state)
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_yaml_is_a_sentence(state: Path) -> None:
    (state / "settings.yaml").write_text("hub: [")
    with pytest.raises(BadSettings, match="cannot be read as YAML"):
        load(state)


def test_another_machine_may_reach_it_with_a_real_authenticator(state: Path) -> None:
    write(state, bind="0.0.0.0", public_url="https://moorage.example.org/", **REAL)
    settings = load(state)
    assert settings.public_url == "https://moorage.example.org"
    c = Config()
    install(c, settings)
    assert issubclass(c.JupyterHub.authenticator_class, GenericOAuthenticator)
    assert c.GenericOAuthenticator.client_id == "c"


def test_a_second_user_needs_root(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(state, users=["ada"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadSettings, match="user 'ada' would be a second one, but Moorage does not run as root"):
        load(state)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load(state).users == ["ada"]


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


CLUSTER = {
    "platform": "kubernetes", "hub_host": "0.0.0.0", "hub_connect_url": "http://moorage-hub:8081", "proxy_api_url": "http://moorage-proxy-api:8001",
    "service_connect_url": "http://moorage-service:8090",
    "kubernetes": {
        "release": "moorage", "namespace": "moorage", "managed_by": "moorage.moorage", "hub_account": "moorage-hub",
        "service_account": "moorage-service", "priority_class": "moorage-user",
        "pods": {"image": "moorage/notebook:1", "uid": 1234, "fs_gid": 567, "node_selector": {"pool": "users"}, "env": {"TZ": "UTC"}},
        "homes": {"capacity": "1Gi", "mount_path": "/home/jovyan"}, "network_policy": {}, "builds": {"image": "moorage/builder:1"},
        "registry": {"pull_secret": "/etc/moorage/registry/pull/.dockerconfigjson"},
    },
}  # fmt: skip


def test_in_a_cluster_the_hub_reaches_its_other_parts_by_their_names(state: Path) -> None:
    write(state, **CLUSTER, public_url="https://moorage.example.org", **REAL)
    settings = load(state)
    c = Config()
    install(c, settings)
    assert c.JupyterHub.hub_bind_url == f"http://0.0.0.0:{settings.hub_port}"
    assert c.JupyterHub.hub_connect_url == "http://moorage-hub:8081"
    assert c.ConfigurableHTTPProxy.api_url == "http://moorage-proxy-api:8001"
    assert set(c.Proxy.extra_routes.values()) == {"http://moorage-service:8090"}
    assert settings.hub_api_url == "http://moorage-hub:8081/hub/api"
    assert settings.service_url == "http://moorage-service:8090/services/moorage"
    assert settings.origins == "per-user"


def test_in_a_cluster_the_first_user_is_called_admin(state: Path) -> None:
    """Whatever account its image has for the uid that it runs under."""
    write(state, **CLUSTER)
    assert load(state).user == "admin"
    write(state, **CLUSTER, user="ada")
    assert load(state).user == "ada"


def test_in_a_cluster_callers_are_told_apart_by_the_proxys_pods(state: Path) -> None:
    c = Config()
    install(c, load(state, **{**CLUSTER, "kubernetes": cluster_settings()}))
    assert (c.FrontDoor.platform, c.FrontDoor.proxy_pods) == ("kubernetes", "moorage-proxy-pods.moorage")
    assert c.PasswordAuthenticator.in_pods is True
    elsewhere = Config()
    install(elsewhere, load(state))
    assert (elsewhere.FrontDoor.platform, elsewhere.FrontDoor.proxy_pods) == ("local", "")


@pytest.mark.parametrize("proxy", ["ingress.example.org", "10.0.0.0/33"])
def test_a_proxy_before_ours_is_named_by_address_or_network(state: Path, proxy: str) -> None:
    write(state, trusted_proxies=[proxy])
    with pytest.raises(BadSettings, match=r"trusted_proxies: .* write addresses, or networks such as"):
        load(state)
    write(state, trusted_proxies=["10.0.0.0/8", "2001:db8::7"])
    assert load(state).trusted_proxies == ["10.0.0.0/8", "2001:db8::7"]


def test_in_a_cluster_notebooks_are_pods_as_the_chart_says(state: Path) -> None:
    write(state, **CLUSTER, public_url="https://moorage.example.org", **REAL, start_timeout_s=300)
    c = Config()
    install(c, load(state))
    spawner = c.JupyterHub.spawner_class(config=c, _deprecated_db_session=None)
    assert (spawner.home, spawner.start_timeout, spawner.port) == ("/home/jovyan", 300, 8888)
    assert (spawner.number("uid", 1), spawner.number("fs_gid", 1)) == (1234, 567)
    assert spawner.pods.node_labels == {"pool": "users"}
    assert spawner.pods.image_pull_secrets == ("moorage-pull",)
    assert spawner.pods.priority_classes["notebook"] == "moorage-user"
    assert spawner.environment == {"TZ": "UTC"}
    assert spawner.service_url == "http://moorage-service:8090/services/moorage"


def test_in_a_cluster_the_hub_must_know_it(state: Path) -> None:
    write(state, **{**CLUSTER, "kubernetes": None}, public_url="http://localhost:8000")
    with pytest.raises(BadSettings, match="install with the chart"):
        install(Config(), load(state))


def test_in_a_cluster_a_public_address_needs_a_real_authenticator(state: Path) -> None:
    write(state, **CLUSTER, public_url="https://moorage.example.org")
    with pytest.raises(BadSettings, match=r"public_url 'https://moorage.example.org' lets other machines in"):
        load(state)
    write(state, **CLUSTER, public_url="http://localhost:8000")
    assert load(state).authenticator == "password"


def test_in_a_cluster_users_are_listed_in_the_hubs_pod(state: Path) -> None:
    write(state, **CLUSTER, public_url="http://localhost:8000", users=["bob"])
    with pytest.raises(BadSettings, match=r"users \['bob'\]: .*moorage-hub user add bob"):
        load(state)


def test_the_hub_is_configured_to_the_letter(state: Path) -> None:
    settings = load(state)
    c = Config()
    install(c, settings)
    assert c.JupyterHub.bind_url == f"http://127.0.0.1:{settings.port}"
    assert c.JupyterHub.hub_bind_url == f"http://127.0.0.1:{settings.hub_port}"
    assert c.ConfigurableHTTPProxy.api_url == f"http://127.0.0.1:{settings.proxy_api_port}"
    assert c.JupyterHub.cleanup_servers is False
    assert c.JupyterHub.init_spawners_timeout == 1
    assert c.JupyterHub.authenticator_class is PasswordAuthenticator
    (service,) = c.JupyterHub.services
    assert "url" not in service  # the hub would wait for it
    several = os.geteuid() == 0
    prefixes = ["localhost/services/moorage/", "content.localhost/"] if several else ["/services/moorage/"]
    assert c.Proxy.extra_routes == dict.fromkeys(prefixes, settings.service_connect_url)
    assert c.ProjectSpawner.server_token_scopes == ["users:activity!user", "access:servers!server"]
    assert c.JupyterHub.load_roles == [
        {
            "name": "moorage-service",
            "description": "Ends notebooks whose limits or whose admin say so.",
            "scopes": ["read:servers", "delete:servers"],
            "services": ["moorage"],
        }
    ]


def test_the_state_folder_keeps_secrets_to_its_owner(state: Path) -> None:
    settings = load(state)
    install(Config(), settings)
    for name in ("secrets", "database", "logs", "workloads", "snapshots", "outputs"):
        assert (state / name).stat().st_mode & 0o777 == 0o700, name
    for path in (state / "secrets").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    before = {path: path.read_text() for path in (state / "secrets").iterdir()}
    prepare_state(state)
    install(Config(), load(state))
    assert {path: path.read_text() for path in (state / "secrets").iterdir()} == before
    assert fixed_ports(state) == fixed_ports(state)


def test_the_settings_file_is_nobody_elses_to_read(state: Path) -> None:
    write(state, authenticator_settings={"GenericOAuthenticator": {"client_secret": "s"}})
    (state / "settings.yaml").chmod(0o644)
    prepare_state(state)
    assert (state / "settings.yaml").stat().st_mode & 0o777 == 0o600
