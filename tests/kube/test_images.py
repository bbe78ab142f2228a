"""Moorage's own images run as a cluster wants them: nobody's root, nothing written but where it is allowed."""

import sys
from collections.abc import Iterator, Mapping

import pytest

from tests.kube.namespace import NO_PRIVILEGES, RESTRICTED, Namespace
from tests.kube.node import Node

pytestmark = pytest.mark.timeout(1200)  # the first run builds them
NOTEBOOK = "/opt/moorage/server/bin/python"
CONTROL = "/opt/moorage/control/bin/python"
# What an image brings compiled is taken as it is: or each start would compile it anew, for seconds. Its Python is this machine's.
COMPILED = f"jupyterhub/__pycache__/__init__.{sys.implementation.cache_tag}.pyc matches"


@pytest.fixture(scope="module")
def own_images(node: Node) -> dict[str, str]:
    return node.push_own_images()


@pytest.fixture
def restricted(node: Node) -> Iterator[Namespace]:
    own = Namespace(node, labels=RESTRICTED)
    try:
        yield own
    finally:
        own.close()


@pytest.mark.parametrize(
    ("image", "command", "says"),
    [
        ("control", ["/opt/moorage/control/bin/moorage", "admin", "--help"], "usage"),
        ("control", [CONTROL, "-I", "-m", "jupyterhub", "--version"], "6.1"),
        ("notebook", [NOTEBOOK, "-I", "-m", "jupyterhub.singleuser", "--version"], "."),
        ("notebook", ["/opt/moorage/bin/uv", "--version"], "uv 0."),
        ("control", [CONTROL, "-I", "-v", "-c", "import jupyterhub"], COMPILED),
        ("notebook", [NOTEBOOK, "-I", "-v", "-c", "import jupyterhub"], COMPILED),
        ("proxy", ["configurable-http-proxy", "--version"], "5."),
    ],
)
def test_an_image_runs_without_rights_and_with_a_root_that_nobody_writes(
    restricted: Namespace, own_images: Mapping[str, str], image: str, command: list[str], says: str
) -> None:
    security = {**NO_PRIVILEGES, "readOnlyRootFilesystem": True}
    restricted.kubectl.apply(
        restricted.pod("tried", ["tini", "--", *command], image=own_images[image], securityContext=security)
    )
    restricted.await_phase("tried", "Succeeded")
    assert says in restricted.logs("tried").lower()
