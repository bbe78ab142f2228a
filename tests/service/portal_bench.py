"""What the tests of the portal share: a signed-in browser without its screen."""

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import select

from moorage.wire import NotebookRequest, Size
from moorage_service.context import Context
from moorage_service.identity import cookies, sessions
from moorage_service.notebooks import operations as notebooks
from moorage_service.settings import PREFIX
from moorage_service.store.tables import UserRow
from tests.service.conftest import GIB, Headers

SMALL = {"cpu": "1", "memory_gib": "2"}


@dataclass
class Visitor:
    """Opens pages and sends forms as one person, as a browser would: with a cookie, an origin and a referer."""

    client: TestClient
    context: Context
    headers: Headers

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, headers=self.headers, **more)

    def page(self, path: str) -> str:
        """The page, which must be there, without its markup's entities."""
        answer = self.get(path)
        assert answer.status_code == 200, (path, answer.status_code, text_of(answer.text))
        return unescape(answer.text)

    def post(self, path: str, data: Any = None, *, referer: str = "/", **more: Any) -> Any:
        origin = self.context.settings.public_url
        headers = {**self.headers, "Origin": origin, "Referer": f"{origin}{PREFIX}{referer}"}
        return self.client.post(path, data=data or {}, headers=headers, **more)

    def send(self, path: str, data: Any = None, *, referer: str = "/", **more: Any) -> str:
        """Sends a form that leads to another page, and returns that page, without its markup's entities."""
        answer = self.post(path, data, referer=referer, **more)
        assert answer.status_code == 303, (path, answer.status_code, text_of(answer.text))
        cookies = "; ".join(f"{name}={value}" for name, value in answer.cookies.items())
        both = {"Cookie": f"{self.headers['Cookie']}; {cookies}"}
        self.client.cookies.clear()
        shown = self.client.get(answer.headers["location"].removeprefix(PREFIX), headers=both)
        assert shown.status_code == 200, (answer.headers["location"], shown.status_code)
        return unescape(shown.text)


def sign_in(client: TestClient, context: Context, token: Headers, name: str) -> Visitor:
    """A session for a user who has a row, with their hub token sealed in it."""
    with context.database.begin() as session:
        user = session.scalars(select(UserRow).where(UserRow.hub_name == name)).one()
        sealed = context.vault.seal(token["Authorization"].removeprefix("Bearer "))
        cookie = sessions.create(session, user_id=user.id, sealed_token=sealed, now=context.clock(), lasts_s=86400)
    return Visitor(client, context, {"Cookie": f"{cookies.SESSION}={cookie}"})


def admit_notebook(context: Context, user: str, project: str = "starter", cpu: float = 1, admin: bool = False) -> str:
    """As the hub's spawner does, before it starts anything. Returns the workload's id."""
    size = Size(cpu=cpu, memory=2 * GIB)
    return notebooks.admit(context, NotebookRequest(user=user, admin=admin, project=project, size=size)).workload_id


def text_of(page: str) -> str:
    """What a person reads of it."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]))).strip()
