"""Stands between the service and PostgreSQL, and on demand forgets to pass on that a COMMIT was done."""

import select
import shutil
import socket
import tempfile
import threading
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class ForgetfulProxy:
    """`folder` is the `host` to connect to. `forgotten` counts commits that were done and whose answer was lost."""

    def __init__(self, server: Path) -> None:
        self._server = str(server / SOCKET)
        self.folder = Path(tempfile.mkdtemp(prefix="moorage-pgproxy-"))
        self.forgotten = 0
        self._armed = threading.Event()
        self._needle = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def __enter__(self) -> "ForgetfulProxy":
        self._listener.bind(str(self.folder / SOCKET))
        self._listener.listen(64)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget_next_commit(self, needle: str) -> None:
        """Of a transaction in which these words were sent to the server."""
        self._needle = needle.encode()
        self._armed.set()

    def has_forgotten(self, times: int) -> bool:
        return self.forgotten >= times

    def _start(self, target: object, *given: object) -> None:
        thread = threading.Thread(target=target, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._carry, client)

    def _carry(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        with client, server:
            try:
                server.connect(self._server)
                self._pass_on(client, server)
            except OSError:
                return  # one of the two is gone; so is the other then

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        sent = b""  # since the last commit
        while not self._stopping:
            ready, _, _ = select.select([client, server], [], [], 0.2)
            for source in ready:
                data = source.recv(1 << 16)
                if not data:
                    return
                (server if source is client else client).sendall(data)
                if source is not client:
                    continue
                sent += data
                if b"COMMIT\0" not in data:
                    continue
                if self._armed.is_set() and self._needle in sent:
                    self._armed.clear()
                    server.recv(1 << 16)  # it is done, and its answer goes nowhere
                    self.forgotten += 1
                    return
                sent = b""
