"""Tokens of the service that a rotation ended (`moorage admin rotate service-to-hub`): the hub would know them for ever."""

from pathlib import Path

from jupyterhub import orm
from sqlalchemy import make_url

from moorage_hub import database
from moorage_hub.state import token_path, write_private

NAME = "service-to-hub"


def end_old_tokens(state: Path, database_url: str) -> None:
    """Called as the hub starts, before it reads the one in use. One of an earlier version is upgraded first: the next start does it."""
    path = token_path(state, NAME)
    present, *old = path.read_text().split()
    if not old:
        return
    if _may_hold_some(database_url):
        try:
            session = orm.new_session_factory(database_url, **database.arguments(database_url))()
        except orm.DatabaseSchemaMismatch:
            return
        for token in old:
            found = orm.APIToken.find(session, token)
            if found is not None:
                session.delete(found)
        session.commit()
        session.get_bind().dispose()
    write_private(path, present)


def _may_hold_some(database_url: str) -> bool:
    url = make_url(database_url)
    return url.get_backend_name() != "sqlite" or Path(url.database or "").exists()
