"""Real notebook servers in homes that are full, or full of links that lead elsewhere."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.driver import UID, RunningHub

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts, and acts as another uid")


@pytest.fixture
def home(hub: RunningHub) -> Iterator[Path]:
    """A small disk with a file that leaves no room on it."""
    options = f"size=64k,uid={UID},gid={UID},mode=0700"
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", hub.home], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    try:
        yield hub.home
    finally:
        subprocess.run(["umount", "--lazy", hub.home], check=True)


def give(path: Path) -> None:
    os.chown(path, UID, UID, follow_symlinks=False)


def test_a_server_starts_in_a_full_home_and_the_service_hears_what_is_wrong(hub: RunningHub, home: Path) -> None:
    (home / "starter").mkdir()
    give(home / "starter")
    with contextlib.suppress(OSError):
        (home / "starter" / "big").write_bytes(b"x" * (1 << 20))
    token = hub.portal_token()
    events = hub.start_notebook(token)
    assert events[-1].get("ready"), events
    hub.stop_notebook(token)


def test_a_server_that_a_link_kills_says_what_it_died_of_and_nothing_was_followed(hub: RunningHub) -> None:
    """The server runs as its user, so what the user's links lead to is opened with the user's rights."""
    before = Path("/root").stat()
    link = hub.home / ".ipython"
    link.symlink_to("/root")
    give(link)
    (hub.home / ".local").symlink_to("/etc")
    token = hub.portal_token()
    try:
        event = hub.start_notebook(token)[-1]
        assert event["failed"]
        message = hub.service.observations[-1]["message"]
        assert message.startswith(
            "The notebook server ended while it started, with exit status 1. It says: PermissionError:"
        )
        assert ".ipython/nbextensions" in message
        link.unlink()
        assert hub.start_notebook(token)[-1].get("ready")  # with the other link there
        hub.stop_notebook(token)
    finally:
        link.unlink(missing_ok=True)
        (hub.home / ".local").unlink()
    after = Path("/root").stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
