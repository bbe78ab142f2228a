"""`make test`: an environment for the tests, the programs they drive, then lint, types, contracts and all tests."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bootstrap.environments import DONE, digest, uv_environment
from bootstrap.interpreter import Interpreter, choose
from bootstrap.node import ensure_proxy
from bootstrap.places import MEMBERS, ROOT, Places, SetupError
from bootstrap.say import run, say, step
from bootstrap.uv_tool import ensure_uv

PR_SET_CHILD_SUBREAPER = 36
VENV = ROOT / ".venv"
LONGEST_FAULT_S = 4 * 3600  # one fault test, at its real duration
FAULTS, KUBERNETES = ROOT / "tests" / "faults", ROOT / "tests" / "kube"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = {
    "chromium": ("chromium", "fonts-dejavu-core"),
    "docker-registry": ("docker-registry",),
    "nftables": ("nftables",),
    "postgresql": ("postgresql",),
}
# By the groups of tests/side_by_side.py.
SIDE_BY_SIDE = ["-n", "3", "--dist", "loadscope", "--no-loadscope-reorder", f"--ignore={KUBERNETES}"]
CHECKS = {
    "ruff": ("ruff", "check", "."),
    "mypy": ("mypy",),
    "import contracts": ("lint-imports",),
}


def run_tests(places: Places, arguments: list[str]) -> int:
    """Everything in one go, or what `arguments` say to pytest. The exit status of pytest, or 1 when only a check before it failed.

    With MOORAGE_KUBE the tests on a Kubernetes node come last, for they take the machine for themselves, and only if the others passed.
    """
    ctypes.CDLL(None).prctl(
        PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    )  # what the tests leave behind comes to us, and ends with us
    _make_ready(places)
    on_kubernetes = bool(os.environ.get("MOORAGE_KUBE"))
    if on_kubernetes:
        _kubernetes()
    failed = [name for name, argv in CHECKS.items() if not _check(name, argv)]
    if failed:
        say(f"Failed: {', '.join(failed)}; see above. The tests follow")
    begin = time.monotonic()
    status, summary = _pytest(arguments or SIDE_BY_SIDE)
    if on_kubernetes and not arguments and status == 0 and not failed:
        say(f"What runs without Kubernetes: passed in {time.monotonic() - begin:.0f} s. Now the tests on Kubernetes")
        status, summary = _pytest([str(KUBERNETES)])
    left = _end_leftovers()
    if left:
        say(f"Ended what the tests had left running: {', '.join(left)}")
        say(summary)
    return status or bool(failed)


def run_faults(places: Places, wanted: list[str]) -> int:
    """The fault tests at their real durations and counts, or those of some faults by number, or some tests by path; then their figures.

    Those on Kubernetes, too, if MOORAGE_KUBE is set. `MOORAGE_FAULTS_REPORT` names the file that keeps the figures,
    `.cache/faults.jsonl` otherwise; it grows, so that faults may be run one by one.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    on_kubernetes = bool(os.environ.get("MOORAGE_KUBE"))
    tests = _fault_tests(wanted, on_kubernetes)
    _make_ready(places)
    if on_kubernetes:
        _kubernetes()
    report = Path(os.environ.setdefault("MOORAGE_FAULTS_REPORT", str(places.state / "faults.jsonl")))
    os.environ.setdefault("MOORAGE_FAULTS", "full")
    if not wanted:
        report.unlink(missing_ok=True)
    status, summary = _pytest([*tests, "-o", f"timeout={LONGEST_FAULT_S}"])
    _end_leftovers()
    say(f"The figures, from {report}:")
    sys.stdout.flush()
    subprocess.run([VENV / "bin" / "python", ROOT / "tests" / "faults" / "table.py", report], check=False)
    say(summary)
    return status


def _fault_tests(wanted: list[str], on_kubernetes: bool) -> list[str]:
    """Paths of tests: "8" is test_08_*.py of tests/faults and, `on_kubernetes`, of tests/kube; nothing wanted: all of them.

    Raises SetupError for a number that no fault has, or has on Kubernetes only.
    """
    if not wanted:
        return [str(FAULTS), *(_on_kubernetes("*") if on_kubernetes else [])]
    found: list[str] = []
    for each in wanted:
        if not each.isdecimal():
            found.append(each)
            continue
        number = f"{int(each):02}"
        here, there = sorted(map(str, FAULTS.glob(f"test_{number}_*.py"))), _on_kubernetes(number)
        if not here and there and not on_kubernetes:
            raise SetupError(
                f'Fault {each} is one of Kubernetes. As root: MOORAGE_KUBE=required make faults FAULTS="{each}"'
            )
        if not here and not there:
            raise SetupError(f"There is no test of a fault {each}. docs/reliability.md lists those there are.")
        found += [*here, *(there if on_kubernetes else [])]
    return found


def _on_kubernetes(number: str) -> list[str]:
    """ "*": those of all faults, and the loads."""
    numbers = (number,) if number != "*" else ("[0-9][0-9]", "load")
    return sorted(str(path) for each in numbers for path in KUBERNETES.glob(f"test_{each}_*.py"))


def _make_ready(places: Places) -> None:
    """The environment, the programs and the variables that the tests need."""
    interpreter = choose(places)
    uv = ensure_uv(places)
    _environment(places, uv, interpreter)
    os.environ["UV"] = str(uv)  # builds are tested with the one that was fetched: there may be none on PATH
    os.environ["MOORAGE_TEST_PROXY"] = str(ensure_proxy(places, uv, interpreter))
    os.environ.setdefault("UV_CACHE_DIR", str(places.cache / "uv"))
    _programs()


def _environment(places: Places, uv: Path, interpreter: Interpreter) -> None:
    lock = ROOT / "locks" / "dev.txt"
    members = [ROOT / member for member in MEMBERS]
    wanted = f"{digest([lock, *(member / 'pyproject.toml' for member in members)])} {interpreter.path}"
    stamp = VENV / DONE
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with step("Making the tests' environment"):
        env = uv_environment(places)
        run([uv, "venv", "--quiet", "--clear", "--no-project", "--python", interpreter.path, VENV], "uv venv", env=env)
        install: list[str | Path] = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--no-deps",
            "--python",
            VENV / "bin" / "python",
        ]
        run([*install, "--require-hashes", "-r", lock], "Installing dev.txt", env=env)
        editable: list[str | Path] = [part for member in members for part in ("-e", member)]
        constraints: list[str | Path] = ["--build-constraints", ROOT / "locks" / "build.txt"]
        run([*install, *constraints, *editable], "Installing the workspace", env=env)
        stamp.write_text(wanted)


def _programs() -> None:
    """Chromium, for the story, PostgreSQL, on which the service's tests run beside SQLite, a registry of images, and as root nft."""
    missing = []
    if not any(shutil.which(name) for name in BROWSERS):
        missing.append("chromium")
    if not (any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or shutil.which("initdb")):
        missing.append("postgresql")
    if shutil.which("docker-registry") is None:
        missing.append("docker-registry")
    if os.geteuid() == 0 and shutil.which("nft") is None:
        missing.append("nftables")
    if not missing:
        return
    packages = [package for name in missing for package in PACKAGES[name]]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(
            f"The tests need {' and '.join(missing)}, which this machine lacks. "
            f"On Debian: sudo apt-get install {' '.join(packages)}"
        )
    with step(f"Installing {' and '.join(missing)} by apt-get, for the tests"):
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], "apt-get update", env=env)
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], "apt-get install", env=env)


def _kubernetes() -> None:
    """What a node of Kubernetes is made of, built once into a cache outside the checkout: minutes, of which pytest would say nothing.

    Not beside the tests: those of the chart need its helm, and compilers take the cores from under those of browsers.
    """
    with step("Building the parts of a Kubernetes node that the cache lacks"):
        argv: list[str | Path] = [VENV / "bin" / "python", "-m", "tests.kube", "build"]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        say(f"Not all could be built; the tests on Kubernetes say which part is missing: {done.stdout.strip()[-2000:]}")


def _check(name: str, argv: tuple[str, ...]) -> bool:
    begin = time.monotonic()
    done = subprocess.run(
        [VENV / "bin" / argv[0], *argv[1:]], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    say(f"{name}: {'passed' if done.returncode == 0 else 'FAILED'} in {time.monotonic() - begin:.1f} s")
    if done.returncode != 0:
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
    return done.returncode == 0


def _pytest(arguments: list[str]) -> tuple[int, str]:
    """Its exit status and its last line, which is the summary."""
    say(f"pytest {' '.join(arguments)}")
    argv: list[str | Path] = [VENV / "bin" / "python", "-m", "pytest", "--durations=10", *arguments]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    last = ""
    with subprocess.Popen(
        argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as tests:
        assert tests.stdout is not None
        for line in tests.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            last = line.strip() or last
    return tests.returncode, last


def _end_leftovers() -> list[str]:
    """Ends our remaining descendants; their names."""
    names = []
    while children := _children():
        for pid in children:
            names.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80])
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return [name for name in names if name]


def _children() -> list[int]:
    """Living or dead, not yet waited for. A killed one hands its own children on to us."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]
