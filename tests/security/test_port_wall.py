"""As root, in a network namespace of their own: users' ports answer to themselves and to root, to nobody else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moorage_spawners.launch import PortWall, WallError
from moorage_spawners.launch.wall import rules
from tests.images.places import open_python

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="uids are told apart as root only")
ADA, BOB, MAPPED, STRANGER = 61000, 61001, 1001, 1002
USERS = range(61000, 61010)
# In the namespace: raises the wall, then listens and asks under the uids that the test names, one line of answer for each.
PROGRAM = """
import ast, os, subprocess, sys
from pathlib import Path
from moorage_spawners.launch import PortWall

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
state, wall_first, listeners, asks, held, python = ast.literal_eval(sys.argv[1])
wall = PortWall(Path(state))
if wall_first:
    wall.up(range(61000, 61010), {1001}, {})
    wall.hold(held, 61000)
LISTEN = "import socket; s = socket.socket(socket.AF_INET6 if ':' in %r else socket.AF_INET)\\n"
LISTEN += "s.bind((%r, %d)); s.listen(); print(flush=True)\\nwhile True: s.accept()[0].close()"
ASK = "import socket, sys; socket.create_connection((%r, %d), 1).close()"
running = []
for uid, host, port in listeners:
    code = LISTEN % (host, host, port)
    one = subprocess.Popen([python, "-I", "-S", "-c", code], user=uid, group=uid, extra_groups=[], stdout=subprocess.PIPE)
    one.stdout.readline()
    running.append(one)
asking = []
for uid, host, port in asks:
    code = ASK % (host, port)
    argv = [python, "-I", "-S", "-c", code]
    asking.append(subprocess.Popen(argv, user=uid, group=uid, extra_groups=[], stderr=subprocess.DEVNULL))
for one in asking:
    print("yes" if one.wait() == 0 else "no", flush=True)
for one in running:
    one.kill()
"""
Where = tuple[int, str, int]


def answers(
    tmp_path: Path, listeners: list[Where], asks: list[Where], *, wall: bool = True, held: tuple[int, ...] = ()
) -> list[bool]:
    given = repr((str(tmp_path), wall, listeners, asks, held, str(open_python())))
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", PROGRAM, given], capture_output=True, text=True, check=True
    )
    return [line == "yes" for line in done.stdout.split()]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_users_port_answers_to_that_user_and_to_root_alone(tmp_path: Path, host: str) -> None:
    listeners = [(ADA, host, 25000), (MAPPED, host, 25001)]
    asks = [(uid, host, port) for port in (25000, 25001) for uid in (0, ADA, BOB, MAPPED, STRANGER)]
    assert answers(tmp_path, listeners, asks) == [True, True, False, False, False, True, False, False, True, False]
    # Without the wall every one of them is answered, so it is the wall that refuses.
    assert answers(tmp_path, listeners, asks, wall=False) == [True] * 10


def test_what_root_serves_answers_to_all(tmp_path: Path) -> None:
    asks = [(uid, "127.0.0.1", 25000) for uid in (0, ADA, MAPPED, STRANGER)]
    assert answers(tmp_path, [(0, "127.0.0.1", 25000)], asks) == [True] * 4


def test_root_sends_nothing_to_whoever_took_the_port_of_another(tmp_path: Path) -> None:
    listeners = [(BOB, "127.0.0.1", 25000), (ADA, "127.0.0.1", 25001)]
    asks = [(0, "127.0.0.1", 25000), (0, "127.0.0.1", 25001), (BOB, "127.0.0.1", 25000)]
    assert answers(tmp_path, listeners, asks, held=(25000, 25001)) == [False, True, True]


def test_no_other_machine_reaches_a_users_port(tmp_path: Path) -> None:
    script = f"""
set -e
ip link set lo up
ip link add here type veth peer name there
unshare --net sleep 60 & other=$!
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do :; done
ip link set there netns $other
ip addr add 10.99.0.1/24 dev here && ip link set here up
nsenter -t $other -n sh -c 'ip addr add 10.99.0.2/24 dev there && ip link set there up'
for uid in {ADA} 0; do
  setpriv --reuid $uid --regid $uid --clear-groups {open_python()} -I -S -c "import socket
s = socket.socket(); s.bind(('0.0.0.0', 25000 + ($uid == 0))); s.listen(); print(flush=True)
while True: s.accept()[0].close()" | read ready_$uid &
done
ask() {{ nsenter -t $other -n {open_python()} -I -S -c "import socket; socket.create_connection(('10.99.0.1', $1), 1)" 2>/dev/null; }}
until ask 25000; do :; done
until ask 25001; do :; done
nft -f - <<'RULES'
{rules("moorage_test", USERS, set(), {}, Path("/"))}
RULES
ask 25000 && echo reached || echo refused
ask 25001 && echo reached || echo refused
kill $other
kill -- -$$
"""
    done = subprocess.run(
        ["unshare", "--net", "setsid", "bash", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["refused", "reached"], done.stderr


def test_a_wall_that_does_not_bind_is_refused_in_words_and_taken_back(tmp_path: Path) -> None:
    program = """
import subprocess, sys
from pathlib import Path
from moorage_spawners.launch import PortWall, WallError

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
untracked = "table inet off { chain out { type filter hook output priority raw; oif lo notrack; }; }"
subprocess.run(["nft", "-f", "-"], input=untracked.replace("{", "{\\n").replace(";", ";\\n").replace("};", "}"), text=True, check=True)
wall = PortWall(Path(sys.argv[1]))
try:
    wall.up(range(61000, 61010), set(), {})
except WallError as error:
    print(wall.stands(), error)
"""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("False The kernel's rules for ports (nftables)"), done.stdout + done.stderr


def test_without_nftables_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moorage_spawners.launch.wall._program", lambda: None)
    with pytest.raises(WallError, match="apt-get install nftables"):
        PortWall(tmp_path).up(USERS, set(), {})


def test_rules_of_an_installation_whose_folder_is_gone_are_taken_away(tmp_path: Path) -> None:
    program = """
import subprocess, sys
from pathlib import Path
from moorage_spawners.launch import PortWall

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
gone, there, own = (PortWall(Path(sys.argv[1]) / name) for name in ("gone", "there", "own"))
for name in ("gone", "there", "own"):
    (Path(sys.argv[1]) / name).mkdir()
gone.up(range(61000, 61010), set(), {25000: 61000})
there.up(range(61000, 61010), set(), {})
(Path(sys.argv[1]) / "gone").rmdir()
own.up(range(61000, 61010), set(), {})
print(gone.stands(), there.stands(), own.stands())
"""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False True True\n", done.stderr
