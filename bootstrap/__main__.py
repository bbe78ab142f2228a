"""`python3 -m bootstrap up|down|setup|link|user|lock|images|test|faults`. Works with nothing installed."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python reads first
    sys.exit("Moorage needs Python 3.11 or later to set itself up. Try: make PYTHON=python3.12 up")

import fcntl
import json
import os
from pathlib import Path

from bootstrap.container_images import BASE, make_images
from bootstrap.environments import build_wheels, ensure_environment, remove_unused
from bootstrap.interpreter import choose
from bootstrap.lock import make_locks
from bootstrap.node import ensure_proxy
from bootstrap.places import ROOT, Places, SetupError, prepare, state_folder
from bootstrap.say import say
from bootstrap.testing import run_faults, run_tests
from bootstrap.trust import trust_the_machine
from bootstrap.uv_tool import ensure_uv


def set_up(places: Places) -> Path:
    """Everything that Moorage runs on, made or brought up to date. Returns the control environment."""
    with (places.tools / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would build the same folders
        interpreter = choose(places)
        uv = ensure_uv(places)
        wheels = build_wheels(places, uv, interpreter)
        control = ensure_environment(places, uv, interpreter, wheels, "control")
        ensure_environment(places, uv, interpreter, wheels, "server")
        remove_unused(places)
        ensure_proxy(places, uv, interpreter)
        record = {"UV": str(uv.resolve()), "CLIENT_WHEEL": str(wheels["moorage"])}
        path = places.state / "installation.json"
        path.write_text(json.dumps(record, indent=1))
        path.chmod(0o644)
    return control


def refuse_second(state: Path) -> None:
    """Raises SetupError when Moorage runs on this state folder: nothing is to change below it."""
    lock = state / "database" / "up.lock"
    if not lock.exists():
        return
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"Moorage runs already on {state}. `make link` makes a new login link, `make down` stops it; "
                "to start a second one set MOORAGE_HOME to another folder."
            ) from None


def hand_over(places: Places, control: Path, *arguments: str) -> None:
    """Becomes `moorage-hub`."""
    sys.stdout.flush()
    environment = {**os.environ, "MOORAGE_HOME": str(places.state)}
    program = [str(control / "bin" / "python"), "-I", "-m", "moorage_hub.main", *arguments]
    os.execve(program[0], program, environment)  # noqa: S606 - a program and its arguments


def main(arguments: list[str]) -> None:
    command = arguments[0] if arguments else "up"
    trust_the_machine()
    state = state_folder()
    if command in ("up", "setup"):
        refuse_second(state)
        say(f"Setting Moorage up in {state}")
        places = prepare(state)
        control = set_up(places)
        if command == "up":
            hand_over(places, control, "up")
        say("Everything is in place; `make up` starts Moorage")
    elif command == "lock":
        make_locks(prepare(ROOT / ".cache"))
    elif command == "images":
        wanted = dict(each.partition("=")[::2] for each in arguments[1:])
        for name, layout in make_images(
            prepare(ROOT / ".cache"), base=wanted.get("BASE") or BASE, push_to=wanted.get("PUSH", "")
        ).items():
            say(f"{name}: {layout}")
    elif command == "test":
        sys.exit(run_tests(prepare(ROOT / ".cache"), arguments[1:]))
    elif command == "faults":
        sys.exit(run_faults(prepare(ROOT / ".cache"), arguments[1:]))
    elif command in ("down", "link", "user"):
        control = state / "control"
        if not control.exists():
            raise SetupError(f"Nothing is set up in {state}; `make up` does that.")
        hand_over(Places(state), control, *arguments)
    else:
        raise SetupError(
            f"There is no command {command!r}; there are up, down, setup, link, user, images, test, faults and lock."
        )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"moorage: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
