"""A registry for the tests of images."""

from collections.abc import Iterator

import pytest

from moorage_images.oci.connection import Connection
from moorage_images.oci.registry import Registry
from tests.images.registries import RunningRegistry, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Open to everybody."""
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def registry(server: RunningRegistry) -> Iterator[Registry]:
    with Connection({}, plain_http=[server.host], wait_s=0.01) as connection:
        yield Registry(connection)
