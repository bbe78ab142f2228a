"""What is open at a notebook server is closed when the session by which it was opened has ended."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError

from moorage.open_sockets import POLICY_VIOLATION, OpenSockets
from moorage.patience import make_patient
from tests.hub.driver import RunningHub
from tests.kernels import ANSWER_S, Kernel, NotebookServer, close, execute


def test_kernels_and_terminals_close_when_the_session_that_opened_them_ends(hub: RunningHub) -> None:
    token = hub.portal_token()
    assert hub.start_notebook(token)[-1].get("ready")
    try:
        with hub.signed_in() as leaving, hub.signed_in() as staying:
            theirs, others = (NotebookServer(each, each.get("/user/admin/starter/lab")) for each in (leaving, staying))
            their_kernel, other_kernel = Kernel(theirs), Kernel(others)
            terminal = theirs.post("/api/terminals").json()["name"]

            async def sign_out_between() -> None:
                own, other = await their_kernel.connect(), await other_kernel.connect()
                typed = await theirs.websocket(f"/terminals/websocket/{terminal}")
                assert await execute(own, "print(6 * 7)") == "42"
                assert (await asyncio.to_thread(leaving.get, "/hub/logout")).is_success
                for each in (own, typed):
                    while await each.read_message() is not None:
                        pass
                    each.close()  # the client's own part of it
                    assert each.close_code == POLICY_VIOLATION
                    assert "Sign in again" in each.close_reason
                assert await execute(other, "print('still there')") == "still there"
                await close(other)

            asyncio.run(asyncio.wait_for(sign_out_between(), ANSWER_S))
            assert theirs.get("/api/kernels").status_code == 403
            assert others.get(f"/api/kernels/{their_kernel.id}").is_success
    finally:
        hub.stop_notebook(token)


class Auth:
    """The hub's answer about each token: a user, None for a session that has ended, or what is raised."""

    access_scopes = frozenset({"access:servers!server=ada/starter"})

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.cache: dict[str, Any] = {}

    def get_token(self, handler: "Socket") -> str:
        return handler.token

    def get_session_id(self, handler: "Socket") -> str:
        return f"session of {handler.token}"

    def check_scopes(self, wanted: frozenset[str], user: dict[str, Any]) -> bool:
        return bool(wanted & set(user["scopes"]))

    async def user_for_token(self, token: str, use_cache: bool, session_id: str, *, sync: bool) -> Any:
        assert (use_cache, session_id, sync) == (False, f"session of {token}", False)
        answer = self.answers[token]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Socket:
    def __init__(self, token: str) -> None:
        self.token = token
        self.ws_connection: object | None = object()
        self.request = cast(HTTPServerRequest, SimpleNamespace(path="/channels"))
        self.closed: tuple[int, str] | None = None

    def close(self, code: int, reason: str) -> None:
        self.closed, self.ws_connection = (code, reason), None


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        ({"name": "ada", "scopes": ["access:servers!server=ada/starter"]}, True),
        ({"name": "root", "scopes": ["self"]}, False),
        (None, False),
        (HTTPError(500), True),
        (ConnectionError(), True),
    ],
    ids=["good", "no-longer-admin", "ended", "hub-fails", "hub-away"],
)
def test_only_what_the_hub_calls_ended_is_closed(answer: Any, stays: bool) -> None:
    async def look() -> Socket:
        sockets, socket = OpenSockets(Auth(theirs=answer)), Socket("theirs")
        sockets.note(cast(Any, socket))
        await sockets.look()
        return socket

    assert (asyncio.run(look()).closed is None) is stays


def test_while_the_hub_is_away_its_last_word_counts() -> None:
    auth = Auth(theirs={"name": "ada"}, others=HTTPError(500))
    make_patient(auth)

    async def ask(token: str) -> Any:
        return await auth.user_for_token(token, False, f"session of {token}", sync=False)

    assert asyncio.run(ask("theirs")) == {"name": "ada"}
    auth.answers["theirs"] = HTTPError(502)
    assert asyncio.run(ask("theirs")) == {"name": "ada"}
    with pytest.raises(HTTPError):
        asyncio.run(ask("others"))  # of whom it never said anything
    auth.answers["theirs"] = None
    assert asyncio.run(ask("theirs")) is None
    auth.answers["theirs"] = HTTPError(502)
    with pytest.raises(HTTPError):
        asyncio.run(ask("theirs"))
