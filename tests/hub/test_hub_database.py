"""The hub's database, locked, full and damaged: hub and person are told in words, and the hub goes on by itself."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from moorage_hub import database
from tests.hub.driver import RunningHub


def test_a_locked_database_is_told_on_the_page_and_in_the_log(hub: RunningHub) -> None:
    file = hub.state / "database" / "hub.sqlite"
    link = hub.login_link("admin")
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with hub.browser() as browser:
            assert browser.get("/hub/login").status_code == 200  # who only reads waits for nobody
            answer = browser.get(link)
    finally:
        holder.rollback()
        holder.close()
    assert answer.status_code == 500
    assert "The hub&#39;s database can&#39;t be used now: another program holds it." in answer.text
    assert "try again in a moment" in answer.text
    assert (
        "The hub's database can't be used now: another program holds it" in (hub.state / "logs" / "hub.log").read_text()
    )
    with hub.signed_in() as browser:  # it needs no restart
        assert browser.get("/hub/home").status_code == 200


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("database or disk is full", "its disk is full. Nothing was changed: ask an admin to make room"),
        ("attempt to write a readonly database", "it can't be written."),
        ("database disk image is malformed", "restore it from a backup; notebooks go on meanwhile"),
        ("no such table: users", None),
    ],
)
def test_each_trouble_has_its_words(said: str, words: str | None) -> None:
    found = database.in_words("sqlite:///hub.sqlite", sqlite3.OperationalError(said))
    assert (words or "") in (found or "")
    assert (found is None) == (words is None)


def test_a_full_disk_reaches_the_error_that_the_page_shows(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.sqlite'}"
    database.prepare(url)
    engine = create_engine(url)
    database.listen(url, engine)
    try:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE things (content BLOB)"))
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
            connection.execute(text("PRAGMA max_page_count=3"))
            with pytest.raises(OperationalError) as caught:
                connection.execute(text("INSERT INTO things VALUES (zeroblob(100000))"))
        assert "its disk is full" in caught.value.jupyterhub_message  # type: ignore[attr-defined]
    finally:
        engine.dispose()
