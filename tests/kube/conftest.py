"""One node for all tests of a run. They are collected with MOORAGE_KUBE=1 only: the first run builds Kubernetes, which takes minutes."""

import os
from collections.abc import Iterator

import pytest

from tests.kube.errors import MissingPart
from tests.kube.namespace import Namespace
from tests.kube.node import Node

collect_ignore_glob = [] if os.environ.get("MOORAGE_KUBE") == "1" else ["test_*.py"]


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """Up and Ready. Skips, naming the part, where this machine can't have one."""
    own = Node()
    try:
        own.up()
    except MissingPart as missing:
        pytest.skip(str(missing))
    print(f"the node is up: {own.took}")
    try:
        yield own
    finally:
        own.down()


@pytest.fixture
def namespace(node: Node) -> Iterator[Namespace]:
    """A namespace of the test's own, gone after it."""
    own = Namespace(node)
    try:
        yield own
    finally:
        own.close()
