"""The built-in list of users, and login links."""

import os
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moorage_hub.accounts import Accounts
from moorage_hub.errors import BadAccount
from moorage_hub.login_links import LoginLinks
from moorage_hub.main import app, new_users
from moorage_hub.settings import load


@pytest.fixture
def accounts(state: Path) -> Accounts:
    found = Accounts(state, "owner")
    found.ensure_owner()
    return found


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_the_owner_has_a_password_from_the_first_start_on(accounts: Accounts, state: Path) -> None:
    password = (state / "secrets" / "password").read_text().strip()
    assert len(password) >= 32
    assert accounts.check("owner", password)
    assert not accounts.check("owner", password + "x")
    accounts.ensure_owner()
    assert accounts.check("owner", password)
    owner = accounts.get("owner")
    assert owner is not None
    assert owner.admin


@pytest.mark.usefixtures("as_root")
def test_as_root_users_are_added_each_with_a_password(accounts: Accounts, state: Path) -> None:
    password = accounts.add("ada")
    assert accounts.check("ada", password)
    assert not accounts.check("owner", password)
    assert password not in (state / "secrets" / "accounts.json").read_text()
    renewed = accounts.new_password("ada")
    assert not accounts.check("ada", password)
    assert accounts.check("ada", renewed)
    accounts.remove("ada")
    assert not accounts.check("ada", renewed)


@pytest.mark.usefixtures("not_root")
def test_without_root_a_second_user_is_refused(accounts: Accounts) -> None:
    with pytest.raises(BadAccount, match=r"user 'ada' would be a second one.*Start it as root \(sudo make up\)"):
        accounts.add("ada")


@pytest.mark.usefixtures("not_root")
def test_in_pods_there_are_many_whoever_runs_the_hub(state: Path) -> None:
    accounts = Accounts(state, "admin", in_pods=True)
    accounts.ensure_owner()
    password = accounts.add("ada")
    assert accounts.check("ada", password)
    with pytest.raises(BadAccount, match="`moorage-hub user password ada` gives them a new password"):
        accounts.add("ada")


def test_without_root_a_user_from_an_earlier_root_start_stays_out(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    password = accounts.add("ada")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not accounts.check("ada", password)
    assert accounts.get("ada") is None


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda accounts: accounts.add("owner"), "is there already"),
        (lambda accounts: accounts.add("Ada L"), "write lower-case letters"),
        (lambda accounts: accounts.new_password("bob"), "user 'bob' is not listed; those who are: owner"),
        (lambda accounts: accounts.remove("owner"), "first user of this installation"),
        (lambda accounts: accounts.remove("bob"), "is not listed"),
    ],
)
def test_bad_names_are_sentences(accounts: Accounts, action: "object", sentence: str) -> None:
    assert callable(action)
    with pytest.raises(BadAccount, match=sentence):
        action(accounts)


@pytest.mark.usefixtures("as_root")
def test_the_command_lists_and_adds_users(state: Path) -> None:
    runner = CliRunner()
    added = runner.invoke(app, ["user", "add", "ada", "--state", str(state)])
    assert added.exit_code == 0
    assert "shown this once: " in added.output
    listed = runner.invoke(app, ["user", "list", "--state", str(state)])
    assert listed.output.splitlines() == ["admin (admin)", "ada"]
    assert runner.invoke(app, ["user", "remove", "ada", "--state", str(state)]).exit_code == 0


@pytest.mark.usefixtures("as_root")
def test_users_of_the_settings_are_added_once(state: Path) -> None:
    settings = load(state, users=["ada"], user="owner")
    passwords = new_users(settings)
    assert list(passwords) == ["ada"]
    assert Accounts(state, "owner").check("ada", passwords["ada"])
    assert new_users(settings) == {}


def test_a_login_link_is_used_up_by_one_of_many(state: Path) -> None:
    links = LoginLinks(state)
    nonce = links.create("ada")
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(links.use(nonce))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for name in found if name) == ["ada"]
    assert nonce not in "".join(path.name for path in (state / "secrets" / "login-links").iterdir())


def test_a_login_link_expires(state: Path) -> None:
    nonce = LoginLinks(state, lifetime_s=-1).create("ada")
    assert LoginLinks(state).use(nonce) is None
    LoginLinks(state, lifetime_s=-1).create("ada")
    LoginLinks(state).create("ada")
    assert len(list((state / "secrets" / "login-links").iterdir())) == 1


def test_an_unknown_login_link_logs_nobody_in(state: Path) -> None:
    assert LoginLinks(state).use("../../password") is None
