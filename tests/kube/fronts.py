"""What stands where the registry stood, when an image is pulled anew: one that holds nothing, one that wants another password, one that
never answers.
"""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.images.registries import behind_password, running
from tests.kube import containers
from tests.kube.node import Node
from tests.kube.place import REGISTRY

KEPT = "kept.test/environment:"


def forget_images(node: Node, repository: str) -> None:
    """The machine has no image of this repository by name; their layers stay, so that to pull them again costs little."""
    for number, name in enumerate(node.image_names(repository)):
        node.rename_image(name, f"{KEPT}{number}")


@contextlib.contextmanager
def empty(node: Node, folder: Path) -> Iterator[None]:
    with running(folder) as registry, _instead(node, registry.host):
        yield


@contextlib.contextmanager
def locked(node: Node, folder: Path) -> Iterator[None]:
    with running(folder, behind_password(folder)) as registry, _instead(node, registry.host):
        yield


@contextlib.contextmanager
def endless(node: Node) -> Iterator[threading.Event]:
    """It takes requests and answers none before its end. Set when one has come."""
    asked, over = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            over.wait()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with _instead(node, f"127.0.0.1:{server.server_address[1]}"):
            yield asked
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def again(node: Node) -> Iterator[None]:
    """Within `endless`: pulls that begin now go to the registry itself, those under way wait on."""
    with _instead(node, REGISTRY):
        yield


@contextlib.contextmanager
def _instead(node: Node, address: str) -> Iterator[None]:
    """Pulls that begin now go there, those under way go on where they began."""
    containers.name_registry(node.place, REGISTRY, address=address)
    try:
        yield
    finally:
        containers.name_registry(node.place, REGISTRY)
