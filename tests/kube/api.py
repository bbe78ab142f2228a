"""The API server for what watches it: plain requests by the standard library, and watches that last.

Everything else asks through kubectl (kubectl.py).
"""

import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

Object = dict[str, Any]
PATIENCE = 30.0
WATCH_S = 300  # the server ends a watch after so long


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._host = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def get(self, path: str) -> str:
        """Raises Refused, or OSError when nobody answers."""
        connection = self._connect(PATIENCE)
        try:
            answer = self._ask(connection, path)
            return answer.read().decode()
        finally:
            connection.close()

    def find(self, path: str) -> Object | None:
        """None when there is no such object, or when nobody answers yet."""
        try:
            found: Object = json.loads(self.get(path))
        except (OSError, Refused, http.client.HTTPException):
            return None
        return found

    def answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (OSError, Refused, http.client.HTTPException):
            return False
        return True

    def list(self, path: str) -> tuple[list[Object], str]:
        """The objects, and the version from which to watch for changes."""
        whole = json.loads(self.get(path))
        return whole["items"] or [], whole["metadata"]["resourceVersion"]

    def watch(self, path: str, version: str) -> Iterator[Object]:
        """Events {"type", "object"} as they come, until the server ends it. Raises Refused (410: list again) and OSError."""
        connection = self._connect(WATCH_S + PATIENCE)
        question = urlencode({"watch": "1", "resourceVersion": version, "timeoutSeconds": WATCH_S})
        try:
            for line in self._ask(connection, f"{path}?{question}"):
                event: Object = json.loads(line)
                if event["type"] == "ERROR":
                    raise Refused(event["object"].get("code", 0), event["object"].get("message", ""))
                yield event
        finally:
            connection.close()

    def _connect(self, patience: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, context=self._tls, timeout=patience)

    @staticmethod
    def _ask(connection: http.client.HTTPSConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300:
            raise Refused(answer.status, answer.read().decode(errors="replace")[:500])
        return answer
