"""What a rotation ended is unknown to the hub from its next start on, and nothing else is."""

from pathlib import Path

from jupyterhub import orm

from moorage_hub.old_tokens import NAME, end_old_tokens
from moorage_hub.state import read_token, token_path


def test_only_the_tokens_that_were_rotated_away_end(state: Path) -> None:
    url, path = f"sqlite:///{state / 'database' / 'hub.sqlite'}", token_path(state, NAME)
    before = read_token(state, NAME)
    session = orm.new_session_factory(url)()
    service = orm.Service(name="moorage")
    session.add(service)
    session.add(orm.OAuthClient(identifier="jupyterhub"))  # the hub's own, which it makes at its first start
    session.commit()
    for token in (before, "another-one-of-the-service-0123456789"):
        service.new_api_token(token, generated=False)
    session.commit()
    path.write_text(f"new-one-0123456789abcdef\n{before}")
    end_old_tokens(state, url)
    assert path.read_text() == read_token(state, NAME) == "new-one-0123456789abcdef"
    assert path.stat().st_mode & 0o077 == 0
    session.expire_all()
    assert orm.APIToken.find(session, before) is None
    assert orm.APIToken.find(session, "another-one-of-the-service-0123456789") is not None
    session.get_bind().dispose()


def test_without_a_database_there_is_nothing_to_end(state: Path) -> None:
    token_path(state, NAME).write_text("new\nold")
    end_old_tokens(state, f"sqlite:///{state / 'database' / 'hub.sqlite'}")
    assert token_path(state, NAME).read_text() == "new"
    assert not (state / "database" / "hub.sqlite").exists()
