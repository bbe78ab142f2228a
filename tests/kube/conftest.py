"""One node for all tests here. They are collected when MOORAGE_KUBE is set only: the first run builds Kubernetes, which takes minutes.

They are skipped, by name, where a machine can't have a node; with MOORAGE_KUBE=required that is a failure.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.figures import report, scale  # noqa: F401
from tests.kube.errors import MissingPart
from tests.kube.led import Led, led  # noqa: F401
from tests.kube.namespace import Namespace
from tests.kube.node import Node
from tests.kube.owners import Owners
from tests.kube.people import crowd  # noqa: F401
from tests.kube.release import Release, new_release

WANTED = os.environ.get("MOORAGE_KUBE", "")

FIRST = Path(__file__).with_name("test_node.py")

collect_ignore_glob = [] if WANTED else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The node's own tests first: they take it down, and with it whatever is installed there."""
    items.sort(key=lambda item: item.path != FIRST)


def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """What was led elsewhere is put back before a test that did not ask for it: to lead it there costs a restart of hub and service."""
    way = item.funcargs.get("led")
    if isinstance(way, Led) and "led" not in getattr(nextitem, "fixturenames", ()):
        way.end()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """Up and Ready."""
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


@pytest.fixture(scope="session")
def release(node: Node) -> Iterator[Release]:
    """The chart installed, and a port of this machine that leads to it; the node takes it along when it goes."""
    own = new_release(node)
    own.install()
    with own.forwarded():
        yield own


@pytest.fixture(scope="module")
def owners(release: Release) -> Iterator[Owners]:
    """Of this module; what they left running has ended when the next one begins."""
    own = Owners(release)
    try:
        yield own
    finally:
        own.close()
