"""Another account of this machine."""

import os
import subprocess

import pytest

from tests.images.places import open_python

STRANGER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="uids are told apart as root only")
_ASK = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 1)"


def answers(port: int, uid: int) -> bool:
    """Whether a TCP port answers to a program of that uid."""
    argv = [str(open_python()), "-I", "-S", "-c", _ASK, str(port)]
    done = subprocess.run(argv, user=uid, group=uid, extra_groups=[], cwd="/", env={}, capture_output=True, check=False)
    return done.returncode == 0
