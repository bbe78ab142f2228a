"""The names by which browsers come: chosen by who may come, checked at the start, and each user's their own."""

import os
import socket
from pathlib import Path

import pytest
import yaml

from moorage.origins import Origins
from moorage_hub.areas.proxy import user_hosts
from moorage_hub.errors import BadSettings
from moorage_hub.hosts import check_names, hold_other_loopback
from moorage_hub.settings import load
from tests.hub.test_settings import REAL


def settings_with(state: Path, monkeypatch: pytest.MonkeyPatch, uid: int, **hub: object) -> Origins:
    (state / "settings.yaml").write_text(yaml.safe_dump({"hub": hub}))
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    return load(state, port=8000).addresses


@pytest.mark.parametrize(
    ("uid", "hub", "expected"),
    [
        (0, {}, Origins("http://localhost:8000", per_user=True)),
        (1000, {}, Origins("http://127.0.0.1:8000")),
        (1000, REAL, Origins("http://localhost:8000", per_user=True)),
        (0, {"origins": "one"}, Origins("http://127.0.0.1:8000")),
        (1000, {"origins": "per-user"}, Origins("http://localhost:8000", per_user=True)),
        (0, {"public_url": "https://moorage.example.org/"}, Origins("https://moorage.example.org", per_user=True)),
        (0, {"public_url": "https://192.0.2.7:8443"}, Origins("https://192.0.2.7:8443")),
        (0, {"public_url": "https://moorage.example.org", "origins": "one"}, Origins("https://moorage.example.org")),
    ],
)
def test_origins_follow_who_may_come_and_by_which_name(
    state: Path, monkeypatch: pytest.MonkeyPatch, uid: int, hub: dict[str, object], expected: Origins
) -> None:
    assert settings_with(state, monkeypatch, uid, **hub) == expected


@pytest.mark.parametrize(
    ("hub", "sentence"),
    [
        ({"public_url": "https://192.0.2.7", "origins": "per-user"}, "is an address without a name"),
        ({"public_url": "https://[::1]:8000", "origins": "per-user"}, "is an address without a name"),
        ({"public_url": "https://moorage.example.org/path"}, "is no origin"),
        ({"public_url": "moorage.example.org"}, "is no origin"),
        ({"public_url": "ftp://moorage.example.org"}, "is no origin"),
        ({"origins": "many"}, "origins"),
    ],
)
def test_an_origin_that_cannot_be_is_a_sentence(
    state: Path, monkeypatch: pytest.MonkeyPatch, hub: dict[str, object], sentence: str
) -> None:
    with pytest.raises(BadSettings, match=sentence):
        settings_with(state, monkeypatch, 0, **hub)


def test_names_below_the_portals_must_lead_somewhere() -> None:
    check_names(Origins("http://localhost:8000", per_user=True))
    check_names(Origins("https://moorage.invalid"))  # one origin needs no names below
    with pytest.raises(
        BadSettings, match=r"content\.moorage\.invalid leads nowhere .* wildcard entry for \*\.moorage\.invalid"
    ):
        check_names(Origins("https://moorage.invalid", per_user=True))


def test_nobody_else_of_this_machine_answers_for_localhost() -> None:
    addresses = Origins("http://localhost:8000", per_user=True)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        held = hold_other_loopback(addresses, "127.0.0.1", port)
        if held is None:
            pytest.skip("this machine has no IPv6")
        with held, socket.socket(socket.AF_INET6) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("::1", port))
            with pytest.raises(ConnectionRefusedError):  # so that a browser goes on to 127.0.0.1
                socket.create_connection(("::1", port), timeout=5)
            with pytest.raises(BadSettings, match=f"holds port {port} at ::1"):
                hold_other_loopback(addresses, "127.0.0.1", port)
    assert hold_other_loopback(Origins("https://moorage.example.org", per_user=True), "127.0.0.1", port) is None


def test_every_user_has_a_host_of_their_own_and_none_of_ours() -> None:
    host = user_hosts("localhost")
    names = [
        "ada",
        "content",
        "localhost",
        "www",
        "ada_b",
        "a.b",
        "ada--b",
        "ada@example.org",
        "Ada Lovelace",
        "żółw",
        "1234",
        "-x",
        "u" * 80,
    ]
    hosts = {name: host(name, "", "user") for name in names}
    assert hosts["ada"] == "ada.localhost"
    assert len(set(hosts.values())) == len(names)
    origins = Origins("http://localhost:8000", per_user=True)
    for name, found in hosts.items():
        label = found.removesuffix(".localhost")
        assert len(label) <= 63, name
        assert origins.door(f"{found}:8000") == "user", name
    assert origins.door("content.localhost:8000") == "content"


@pytest.mark.parametrize(
    ("portal", "host", "door"),
    [
        ("http://localhost:8000", "localhost:8000", "portal"),
        ("http://localhost:8000", "LOCALHOST:8000", "portal"),
        ("http://localhost:8000", "localhost", None),
        ("http://localhost:8000", "ada.localhost:8000", "user"),
        ("http://localhost:8000", "ada.localhost:8001", None),
        ("http://localhost:8000", "a.ada.localhost:8000", None),
        ("http://localhost:8000", ".localhost:8000", None),
        ("http://localhost:8000", "localhost.:8000", None),
        ("https://moorage.example.org", "moorage.example.org", "portal"),
        ("https://moorage.example.org", "moorage.example.org:443", "portal"),
        ("https://moorage.example.org", "moorage.example.org:80", None),
        ("https://moorage.example.org", "content.moorage.example.org", "content"),
        ("https://moorage.example.org", "evilmoorage.example.org", None),
        ("https://moorage.example.org", "example.org", None),
        ("https://moorage.example.org", "", None),
    ],
)
def test_a_host_header_names_one_of_ours_or_none(portal: str, host: str, door: str | None) -> None:
    assert Origins(portal, per_user=True).door(host) == door
    if door in ("user", "content"):
        assert Origins(portal).door(host) is None
