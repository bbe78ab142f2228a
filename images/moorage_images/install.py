"""From a lock to an installed tree, and whether a kernel starts in it: the same on one machine and in a pod."""

import os
import threading
from pathlib import Path

from moorage_images.errors import BuildError
from moorage_images.plan import EnvironmentPlan, Lock, install_lines
from moorage_images.resolve import why
from moorage_images.sandbox import Log, Sandbox

_KERNEL_STARTS = "import ipykernel.kernelapp, moorage"
_OF_TIME = "uv_cache.json"  # when the client's wheel was written here: it would make each build another one


def install(
    plan: EnvironmentPlan,
    lock: Lock,
    folder: Path,
    sandbox: Sandbox,
    uv: Path,
    log: Log,
    cancel: threading.Event,
) -> None:
    """Fills `folder`, which is there and empty, with the environment, compiled. Raises BuildError with the installer's own reason."""
    base = plan.interpreter.path
    wheel = sandbox.write(plan.client.path.name, plan.client.path.read_bytes())
    wanted = sandbox.write("install.txt", install_lines(plan, lock, wheel))
    python = folder / "bin" / "python"
    log(f"Installing {len(lock.text.split('=='))} packages.")
    make: list[str | Path] = [uv, "venv", "--no-project", "--allow-existing", "--python", base, folder]
    argv: list[str | Path] = [uv, "pip", "install", "--python", python, "--no-deps", "--require-hashes"]
    argv += ["--link-mode", "copy", "--no-compile-bytecode", "-r", wanted]
    if not lock.from_source:
        argv.append("--no-build")
    for each in (make, argv):
        said: list[str] = []
        code, _ = sandbox.run(each, both(said.append, indented(log)), cancel)
        if code != 0:
            raise BuildError(f"The packages can't be installed: {why(code, said)} The build's log has the rest.")
    log("Compiling to bytecode.")
    # By the base interpreter without `site`: the environment's own would run the .pth files of its packages.
    # Unchecked hashes: the tree never changes, so nobody has to compare times. Files of other Pythons fail; so be it.
    compile_: list[str | Path] = [base, "-I", "-S", "-m", "compileall", "-qq", "-j", str(os.cpu_count() or 1)]
    compile_ += ["--invalidation-mode", "unchecked-hash", folder / "lib"]
    sandbox.run(compile_, lambda _line: None, cancel)


def try_kernel(folder: Path, sandbox: Sandbox, log: Log, cancel: threading.Event) -> None:
    """An environment whose kernel can't start is never given to anyone. Raises BuildError."""
    said: list[str] = []
    argv: list[str | Path] = [folder / "bin" / "python", "-I", "-c", _KERNEL_STARTS]
    code, _ = sandbox.run(argv, both(said.append, indented(log)), cancel)
    if code != 0:
        raise BuildError(
            f"A kernel can't start in the environment: {why(code, said)} Correct `packages` and build again."
        )


def forget_times(folder: Path) -> None:
    """Takes out of an installed tree, which no package's code may still change, what says when it was made."""
    for note in folder.glob(f"lib/python3*/site-packages/*.dist-info/{_OF_TIME}"):
        record = note.with_name("RECORD")
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if not line.startswith(f"{note.parent.name}/{_OF_TIME},")))
        note.unlink()
    (folder / ".lock").unlink(missing_ok=True)  # uv leaves it for everybody to write


def indented(log: Log) -> Log:
    return lambda line: log(f"  {line}")


def both(first: Log, second: Log) -> Log:
    def log(line: str) -> None:
        first(line)
        second(line)

    return log
