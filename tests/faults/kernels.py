"""A kernel of a real notebook server, spoken to as a browser does: by REST, and by a websocket through the proxy."""

import asyncio
import json
import uuid
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.faults.person import Person

ANSWER_S = 60.0


class Kernel:
    """A new kernel of the person's server, which must be ready."""

    def __init__(self, person: Person, project: str = "starter") -> None:
        self._person = person
        opened = person.server("lab", project)  # signs in at the server, too
        assert opened.status_code == 200, opened.text[-500:]
        self._base = str(opened.url).partition("/lab")[0]
        answer = person.browser.post(f"{self._base}/api/kernels", json={}, headers=self._headers())
        assert answer.status_code == 201, answer.text
        self.id = str(answer.json()["id"])

    def _headers(self) -> dict[str, str]:
        parts = urlsplit(self._base)
        xsrf = [
            each.value or ""
            for each in self._person.browser.cookies.jar
            if each.name == "_xsrf" and each.path == f"{parts.path}/"
        ]
        return {"Origin": f"{parts.scheme}://{parts.netloc}", "X-XSRFToken": xsrf[-1] if xsrf else ""}

    def alive(self) -> bool:
        answer = self._person.browser.get(f"{self._base}/api/kernels/{self.id}", headers=self._headers())
        return answer.status_code == 200

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
        """A websocket to the kernel, through the proxy."""
        parts = urlsplit(self._base)
        path = f"{parts.path}/api/kernels/{self.id}/channels?session_id={uuid.uuid4().hex}"
        request = self._person.browser.build_request("GET", f"{parts.scheme}://{parts.netloc}{path}")
        headers = {**self._headers(), "Host": parts.netloc, "Cookie": request.headers.get("cookie", "")}
        return await websocket_connect(HTTPRequest(f"ws://127.0.0.1:{parts.port}{path}", headers=headers))


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
