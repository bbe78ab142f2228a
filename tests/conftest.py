"""What the tests of several distributions share: a folder and a package index for real builds."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage_images.seal import remove
from tests.fakes.package_index import PackageIndex, small_index

# A service that a test starts leaves no rules in this machine's own network; the story raises its wall, and takes it away.
os.environ.setdefault("MOORAGE_SERVICE_PORT_WALL", "off")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where other uids may pass: pytest's own folders are for their owner alone."""
    folder = Path(tempfile.mkdtemp(prefix="moorage-builds-"))
    folder.chmod(0o755)
    yield folder
    remove(folder)


@pytest.fixture
def index(open_folder: Path) -> PackageIndex:
    folder = open_folder / "index"
    folder.mkdir()
    return small_index(folder)
