"""A notebook server's stand-in, at some milliseconds and megabytes: what hub and spawner ask of one, and a counter in its memory.

Run as `python -I -S light_server.py` with the environment of a notebook server. `GET <base>counter` counts on and says where it is.
With SLOW_S in the environment it begins to listen so many seconds late.
"""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ADDRESS = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
counter = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        global counter
        counter += urlsplit(self.path).path.endswith("/counter")
        body = json.dumps({"pid": os.getpid(), "counter": counter}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


time.sleep(float(os.environ.get("SLOW_S", "0")))
ThreadingHTTPServer((ADDRESS.hostname or "127.0.0.1", ADDRESS.port or 0), Handler).serve_forever()
