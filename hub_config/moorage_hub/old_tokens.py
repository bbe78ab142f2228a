"""Tokens of the service that a rotation ended (`moorage admin rotate service-to-hub`): the hub would know them for ever."""

from pathlib import Path

from jupyterhub import orm

from moorage_hub.state import token_path, write_private

NAME = "service-to-hub"


def end_old_tokens(state: Path, database: Path) -> None:
    """Called as the hub starts, before it reads the one in use. One of an earlier version is upgraded first: the next start does it."""
    path = token_path(state, NAME)
    present, *old = path.read_text().split()
    if not old:
        return
    if database.exists():
        try:
            session = orm.new_session_factory(f"sqlite:///{database}")()
        except orm.DatabaseSchemaMismatch:
            return
        for token in old:
            found = orm.APIToken.find(session, token)
            if found is not None:
                session.delete(found)
        session.commit()
        session.get_bind().dispose()
    write_private(path, present)
