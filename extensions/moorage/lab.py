"""What a notebook server of Moorage has beyond Jupyter's. Loaded by the notebook server only, never by a kernel.

JupyterLab's side panel asks its own server, which asks the service with the notebook's token: the page of a notebook server is a stranger
to the portal, its requests carry no session, and are refused there. Open websockets are closed when their session ends. In a pod the
server tells the service what its cluster does not see.
"""

import json
from dataclasses import asdict
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

from moorage import calls
from moorage.asyncclient import AsyncClient
from moorage.environment import Surroundings, surroundings
from moorage.errors import MoorageError
from moorage.notebook.condition import Condition
from moorage.open_sockets import OpenSockets
from moorage.patience import make_patient


class UsageHandler(APIHandler):
    """`GET <server>/moorage/usage`: what the user holds and what is left, as the service tells it."""

    def initialize(self, around: Surroundings) -> None:
        self._around = around

    @web.authenticated
    async def get(self) -> None:
        url, token = self._around.api_url, self._around.token
        if url is None or token is None:
            raise web.HTTPError(503, "This server was not started by Moorage.")
        try:
            async with AsyncClient(url, token, delays=()) as client:
                usage = await client.send(calls.my_usage(self._around.project))
        except MoorageError as error:
            self.set_status(503)
            self.finish(json.dumps({"message": str(error)}))
            return
        self.finish(json.dumps(asdict(usage)))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "moorage.lab"}]


def _load_jupyter_server_extension(server: Any) -> None:
    place = url_path_join(server.web_app.settings["base_url"], "moorage", "usage")
    around = surroundings()
    server.web_app.add_handlers(".*$", [(place, UsageHandler, {"around": around})])
    Condition(around, parent=server).start()
    auth = getattr(server.identity_provider, "hub_auth", None)
    if auth is not None:  # none where somebody runs Jupyter without a hub
        make_patient(auth)
        OpenSockets(auth, parent=server).start()
