"""Values that must not be found anywhere but where they belong, and the search for them.

What belongs: `secrets/`, sealed columns of the database, the shims' own records (0700), a workload's own environment and scratch folder,
and the one answer that gives a cluster's credentials to its owner's workload.
"""

import base64
import html
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import select

from moorage_service.clusters.operations import credentials_of
from moorage_service.context import Context
from moorage_service.store.tables import ClusterRow
from tests.folders import contents

SHORTEST = 12  # of a piece that is looked for


class Canaries:
    """Name -> value. `seen` is where which was found."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.seen: set[tuple[str, str]] = set()
        self._stop = threading.Event()

    def add(self, name: str, value: str) -> str:
        self.values[name] = value
        return value

    def look(self, place: str, content: bytes | str) -> None:
        data = content.encode(errors="surrogatepass") if isinstance(content, str) else content
        for name, value in self.values.items():
            if any(form in data for form in forms(value)):
                self.seen.add((name, place))

    def look_in_files(self, *folders: Path, named: str = "") -> int:
        """At each whose name contains `named`; how many were read."""
        read = [(path, data) for path, data in contents(*folders) if named in path.name]
        for path, data in read:
            self.look(str(path), data)
        return len(read)

    @contextmanager
    def watching(self, context: Context) -> Iterator[None]:
        """Process lists all the time; what clusters and processes are given meanwhile becomes a canary as well."""
        thread = threading.Thread(target=self._watch, args=(context,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(30)

    def _watch(self, context: Context) -> None:
        while not self._stop.wait(0.1):
            with context.database.read() as session:
                rows = session.scalars(select(ClusterRow).where(ClusterRow.sealed.is_not(None))).all()
            for row in rows:
                for name, value in credentials_of(context, row).items():
                    if name not in ("ca", "cert"):  # those are shown to whoever connects
                        self.values[f"{row.engine} {name}"] = value
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    given = (process / "environ").read_bytes()
                    if str(context.settings.state).encode() in given:
                        for entry in given.split(b"\0"):
                            if entry.startswith(b"MOORAGE_TOKEN="):
                                self.values["workload token"] = entry.partition(b"=")[2].decode()
                    self.look(f"the command line of process {process.name}", (process / "cmdline").read_bytes())
                except OSError:
                    continue  # it ended


def forms(value: str) -> Iterator[bytes]:
    """As it may be written: itself, in JSON, HTML, an address, base64; of several lines also each by itself."""
    for text in [value, *(line for line in value.splitlines() if len(line) >= SHORTEST and "-----" not in line)]:
        encoded = text.encode()
        yield encoded
        yield json.dumps(text)[1:-1].encode()
        yield html.escape(text).encode()
        yield quote(encoded, safe="").encode()
        yield base64.b64encode(encoded)
