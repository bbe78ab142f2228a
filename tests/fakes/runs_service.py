"""The service as a runner sees it: takes progress and outputs over real HTTP, and can be away for a while."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RunsService:
    """What arrived. `away` makes it answer 503, as a proxy does while the service restarts."""

    def __init__(self) -> None:
        self.progress: list[dict[str, Any]] = []
        self.outputs: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.tokens: set[str] = set()
        self.away = threading.Event()
        self.refused = 0
        self.url = ""

    def states(self) -> list[str]:
        return [cell["state"] for cell in self.progress[-1]["cells"]] if self.progress else []

    @property
    def last(self) -> dict[str, Any]:
        return self.progress[-1]


@contextmanager
def runs_service() -> Iterator[RunsService]:
    """Serves on a free port of loopback."""
    service = RunsService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if body := self._body():
                service.progress.append(json.loads(body))

        def do_PUT(self) -> None:
            body = self._body()
            if body is not None:
                name = self.path.rsplit("/", 1)[-1]
                service.outputs[name] = body
                service.uploads.append(name)

        def _body(self) -> bytes | None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            away = service.away.is_set()
            service.refused += away
            service.tokens.add(self.headers["Authorization"])
            self.send_response(503 if away else 204)
            self.end_headers()
            return None if away else body

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Nothing: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}/services/moorage"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
