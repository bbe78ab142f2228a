"""Signing a user out everywhere: for the service, when an admin says so or disables the user.

JupyterHub can end one browser's session, and only that browser can ask for it. Here all of a user's sessions end: the hub's cookies, what
portal and notebooks were given at sign-in, and the tokens from the token page. Tokens of notebook servers that run stay theirs.
"""

from typing import Any

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from moorage_hub.areas.roles import SERVICE


class SignOutHandler(APIHandler):  # type: ignore[misc]  # jupyterhub carries no types
    """`POST /hub/api/sign-out/NAME`, with the service's own token: 204; a user whom the hub does not know is out already."""

    async def post(self, name: str) -> None:
        caller = self.current_user
        if not isinstance(caller, orm.Service) or caller.name != SERVICE:
            raise web.HTTPError(403, "This is for Moorage's service.")
        user = self.find_user(name)
        if user is not None:
            keep = {_hashed(self.db, each.api_token) for each in user.spawners.values() if each.api_token}
            for token in list(user.api_tokens):
                if token.hashed not in keep:
                    self.db.delete(token)
            user.orm_user.cookie_id = orm.new_token()
            self.db.commit()
            self.log.info("Signed %s out everywhere", user.name)
        self.set_status(204)
        self.finish()


def _hashed(db: Any, token: str) -> str | None:
    found = orm.APIToken.find(db, token)
    return None if found is None else str(found.hashed)
