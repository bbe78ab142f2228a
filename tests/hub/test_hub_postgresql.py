"""The hub with its records in PostgreSQL: they are there, outlive it, and a server that is away is told in words."""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from jupyterhub import orm
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from moorage_hub import database
from moorage_hub.old_tokens import NAME, end_old_tokens
from moorage_hub.state import token_path
from tests.hub.driver import RunningHub
from tests.service import postgres
from tests.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    """Skipped, by name, where Debian's `postgresql` is not installed."""
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres.server(programs) as made:
        yield made


@pytest.fixture(scope="module")
def url(server: postgres.Server) -> str:
    """Of a database of the hub's own."""
    with psycopg.connect(f"host={server.folder} user=moorage dbname=postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE hub")
    return server.url.replace("/postgres?", "/hub?")


@pytest.fixture(scope="module")
def hub(proxy_script: Path, server_python: Path, url: str) -> Iterator[RunningHub]:
    folder = Path(tempfile.mkdtemp(prefix="moorage-hub-"))
    folder.chmod(0o755)
    given = url.replace("+psycopg", "")  # as most write it
    running = RunningHub(folder / "state", proxy_script, server_python, {"MOORAGE_HUB_DATABASE_URL": given})
    try:
        with running.serving():
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_sign_ins_are_kept_in_it_and_outlive_the_hub(hub: RunningHub, url: str) -> None:
    with hub.signed_in() as browser:
        hub.child.stop()
        hub.start()
        assert browser.get("/hub/home").url.path == "/hub/home"
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM users")).scalars().all() == ["admin"]
    engine.dispose()
    assert not (hub.state / "database" / "hub.sqlite").exists()


def test_a_server_that_is_away_is_told_on_the_page_and_needs_no_restart(
    hub: RunningHub, server: postgres.Server
) -> None:
    link = hub.login_link("admin")
    server.stop(signal.SIGINT)
    try:
        with hub.browser() as browser:
            answer = browser.get(link)
    finally:
        server.start()
    assert answer.status_code == 500
    assert "The hub&#39;s database can&#39;t be used now: it does not answer. Try again in a moment" in answer.text
    log = (hub.state / "logs" / "hub.log").read_text()
    assert "The hub's database can't be used now: it does not answer." in log

    def goes_on() -> bool:
        with hub.browser() as browser:
            return browser.get(hub.login_link("admin")).status_code == 200

    eventually(goes_on, within=60, what="a sign-in after the server came back")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (psycopg.errors.DiskFull(), "its disk is full. Nothing was changed: ask an admin to make room"),
        (psycopg.errors.TooManyConnections(), "it takes no more connections."),
        (psycopg.errors.InvalidPassword(), "look at the user and password in database_url"),
        (psycopg.errors.ReadOnlySqlTransaction(), "it can't be written."),
        (psycopg.OperationalError("server closed the connection"), "it does not answer."),
        (psycopg.errors.UndefinedTable(), None),
        (psycopg.errors.UniqueViolation(), None),
    ],
)
def test_each_trouble_has_its_words(error: psycopg.Error, words: str | None) -> None:
    wrapped = DBAPIError.instance("SELECT 1", {}, error, psycopg.Error)
    found = database.in_words("postgresql+psycopg://ada:hush@db/hub", wrapped)
    assert (words or "") in (found or "")
    assert (found is None) == (words is None)
    assert "hush" not in (found or "")


def test_a_token_that_was_rotated_away_ends(hub: RunningHub, url: str, state: Path) -> None:
    session = orm.new_session_factory(url)()
    service = orm.Service(name="another")
    session.add(service)
    session.commit()
    service.new_api_token("rotated-away-0123456789", generated=False)
    session.commit()
    token_path(state, NAME).write_text("new-one-0123456789abcdef\nrotated-away-0123456789")
    end_old_tokens(state, url)
    session.expire_all()
    assert orm.APIToken.find(session, "rotated-away-0123456789") is None
    assert token_path(state, NAME).read_text() == "new-one-0123456789abcdef"
    session.delete(service)
    session.commit()
    session.get_bind().dispose()
