"""Homes in every odd state: mended where it is ours to mend, else refused with words, and never by following a link."""

import os
import stat
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from moorage_service.context import Context
from moorage_service.identity import homes, users
from moorage_service.notebooks import reconcile
from moorage_service.store.tables import ProjectRow, ReservationRow, UserRow

Headers = dict[str, str]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users uids of their own")


@pytest.fixture
def user(context: Context, people: dict[str, Headers]) -> UserRow:
    with context.database.read() as session:
        return users.user_named(session, "ada")


@pytest.fixture
def home(context: Context, user: UserRow) -> Path:
    """Where it should be; not made."""
    return users.home_of(context.settings, user)


def owner(path: Path) -> int:
    return path.lstat().st_uid


def refused(context: Context, user: UserRow) -> str:
    with pytest.raises(homes.HomeUnusable) as caught:
        homes.ensure_home(context.settings, user)
    return str(caught.value)


def test_a_missing_home_is_made(context: Context, user: UserRow, home: Path) -> None:
    home.parent.rmdir()
    assert homes.ensure_home(context.settings, user) == home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert owner(home) == (os.geteuid() if user.uid is None else user.uid)


def test_a_home_that_its_owner_may_not_write_is_opened_again(context: Context, user: UserRow, home: Path) -> None:
    homes.ensure_home(context.settings, user).chmod(0o500)
    homes.ensure_home(context.settings, user)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_plain_file_in_its_place_is_refused_with_words(context: Context, user: UserRow, home: Path) -> None:
    home.write_text("what was kept here")
    assert "is something else. An admin has to move it away." in refused(context, user)
    assert home.read_text() == "what was kept here"


@as_root
def test_somebody_elses_folder_is_refused_and_left_alone(context: Context, user: UserRow, home: Path) -> None:
    home.mkdir()
    os.chown(home, 12345, 12345)
    assert f"belongs to uid 12345, not to yours ({user.uid})" in refused(context, user)
    assert owner(home) == 12345


@as_root
def test_a_link_that_leads_elsewhere_gives_nothing_away(
    context: Context, user: UserRow, home: Path, tmp_path: Path
) -> None:
    """Whatever it leads to, it keeps its owner and mode."""
    target = tmp_path / "of root"
    target.mkdir(mode=0o711)
    home.symlink_to(target)
    assert "belongs to uid 0" in refused(context, user)
    assert (owner(target), stat.S_IMODE(target.stat().st_mode)) == (0, 0o711)
    home.unlink()
    home.symlink_to(tmp_path / "nowhere")
    assert "which can't be reached (No such file or directory)" in refused(context, user)
    assert not (tmp_path / "nowhere").exists()


@as_root
def test_a_home_that_an_admin_keeps_elsewhere_is_used_as_it_is(
    context: Context, user: UserRow, home: Path, tmp_path: Path
) -> None:
    assert user.uid is not None
    target = tmp_path / "big disk"
    target.mkdir(mode=0o750)
    os.chown(target, user.uid, user.uid)
    home.symlink_to(target)
    homes.ensure_home(context.settings, user)
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


def test_a_notebook_without_a_usable_home_ends_at_once_and_says_why(
    context: Context, client: TestClient, spawner: Headers, ada: Headers, project: ProjectRow, home: Path
) -> None:
    """And holds nothing meanwhile: others are admitted as if it had not been."""
    home.write_text("in the way")
    body = {"user": "ada", "admin": False, "project": "starter", "size": {"cpu": 1, "memory": 1 << 30}}
    answer = client.post("/api/v1/notebooks", headers=spawner, json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "home_unusable")
    (found,) = client.get("/api/v1/notebooks?ended=true", headers=ada).json()
    reconcile.step(context, found["id"])
    found = client.get(f"/api/v1/notebooks/{found['id']}", headers=ada).json()
    assert found["phase"] == "failed"
    assert "is something else. An admin has to move it away." in found["reason"]
    with context.database.read() as session:
        assert session.get_one(ReservationRow, found["id"]).released_at is not None
    home.unlink()
    assert client.post("/api/v1/notebooks", headers=spawner, json=body).status_code == 201
