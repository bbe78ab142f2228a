"""A kernel of a real notebook server, spoken to as a browser does: by REST, and by a websocket through the proxy."""

import asyncio
import json
import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

ANSWER_S = 60.0


class NotebookServer:
    """The server that `opened`, JupyterLab's page in the browser, is of: its routes and websockets, asked as that page asks."""

    def __init__(self, browser: httpx.Client, opened: httpx.Response) -> None:
        assert opened.status_code == 200, opened.text[-500:]
        self._browser = browser
        self._base = urlsplit(str(opened.url).partition("/lab")[0])

    def _headers(self) -> dict[str, str]:
        xsrf = [
            each.value or ""
            for each in self._browser.cookies.jar
            if each.name == "_xsrf" and each.path == f"{self._base.path}/"
        ]
        return {"Origin": f"{self._base.scheme}://{self._base.netloc}", "X-XSRFToken": xsrf[-1] if xsrf else ""}

    def get(self, path: str) -> httpx.Response:
        return self._browser.get(f"{self._base.geturl()}{path}", headers=self._headers())

    def post(self, path: str) -> httpx.Response:
        return self._browser.post(f"{self._base.geturl()}{path}", json={}, headers=self._headers())

    async def websocket(self, path: str) -> Any:
        """Through the proxy."""
        request = self._browser.build_request("GET", f"{self._base.geturl()}{path}")
        headers = {**self._headers(), "Host": self._base.netloc, "Cookie": request.headers.get("cookie", "")}
        url = f"ws://127.0.0.1:{self._base.port}{self._base.path}{path}"
        return await websocket_connect(HTTPRequest(url, headers=headers))


class Kernel:
    """A new kernel of a server that is ready."""

    def __init__(self, server: NotebookServer) -> None:
        self._server = server
        answer = server.post("/api/kernels")
        assert answer.status_code == 201, answer.text
        self.id = str(answer.json()["id"])

    def alive(self) -> bool:
        return self._server.get(f"/api/kernels/{self.id}").status_code == 200

    def run(self, code: str) -> str:
        """What the code prints (or its error's name), over a websocket of its own."""
        return asyncio.run(asyncio.wait_for(self._run(code), ANSWER_S))

    async def _run(self, code: str) -> str:
        connection = await self.connect()
        try:
            return await execute(connection, code)
        finally:
            await close(connection)

    async def connect(self) -> Any:
        return await self._server.websocket(f"/api/kernels/{self.id}/channels?session_id={uuid.uuid4().hex}")


async def execute(connection: Any, code: str) -> str:
    """Raises ConnectionError when the websocket is closed before the answer is there."""
    message_id = uuid.uuid4().hex
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "username": "",
        "session": message_id,
        "version": "5.3",
        "date": "",
    }
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
    await connection.write_message(json.dumps(message))
    said = ""
    while True:
        raw = await connection.read_message()
        if raw is None:
            raise ConnectionError("the websocket was closed")
        if isinstance(raw, bytes):
            continue
        found = json.loads(raw)
        if found["parent_header"].get("msg_id") != message_id:
            continue
        kind = found["header"]["msg_type"]
        if kind == "stream":
            said += found["content"]["text"]
        elif kind == "error":
            said += found["content"]["ename"]
        elif kind == "status" and found["content"]["execution_state"] == "idle":
            return said.strip()


async def close(connection: Any) -> None:
    """Returns when the other side has closed it, too."""
    connection.close()
    while await connection.read_message() is not None:
        pass
