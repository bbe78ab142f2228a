"""The stand-in for notebook servers: one small web server that is everybody's, and the spawner that sends people there.

What the spawner asks and tells the service is what the real one does; only the process is left out.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from moorage.wire import NotebookAdmission, Size
from moorage_spawners.launch import Observation
from moorage_spawners.local import ProjectLocalSpawner


class StandInSpawner(ProjectLocalSpawner):
    async def _start_admitted(self, admission: NotebookAdmission, size: Size) -> str:  # noqa: ARG002 - as the real one
        server = os.environ["MOORAGE_BENCH_SERVER"]
        self._remember_at(admission, urlsplit(server).port or 0)
        await self._observed("starting", "Starting the notebook server.")
        return server

    def _observe(self) -> Observation | None:
        if not self._workload_id:
            return None
        return Observation(self._workload_id, self._generation, "server", "running", pid=os.getpid())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": urlsplit(self.path).path}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[int]:
    """The port of the server that stands in for all."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
