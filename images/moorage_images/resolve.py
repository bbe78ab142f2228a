"""From a plan to a lock, by `uv pip compile`. Wheels alone if they suffice, for then no package's code runs at all."""

import threading
from pathlib import Path

from moorage_images.errors import BuildError
from moorage_images.plan import EnvironmentPlan, Lock
from moorage_images.sandbox import Log, Sandbox

_DRAWING = dict.fromkeys(map(ord, "\u00d7\u2570\u2500\u25b6\u2502"), " ")  # the strokes of uv's error trees


class NoWheelError(BuildError):
    """Some package has no wheel for this Python: it would have to be built from its source."""

    code = "no_wheel"


def resolve(
    plan: EnvironmentPlan, sandbox: Sandbox, uv: Path, *, from_source: bool, log: Log, cancel: threading.Event
) -> Lock:
    """Raises NoWheelError (only when not `from_source`), else BuildError with the resolver's own reason."""
    wanted = sandbox.write("wanted.txt", "\n".join(plan.requirements) + "\n")
    overrides = sandbox.write("overrides.txt", "\n".join(plan.overrides) + "\n")
    said: list[str] = []

    def listen(line: str) -> None:
        said.append(line)
        log(line)

    argv: list[str | Path] = [uv, "pip", "compile", wanted, "--override", overrides, "--python", plan.interpreter.path]
    argv += ["--generate-hashes", "--no-header", "--no-annotate", "--no-python-downloads", "--no-emit-index-url"]
    if not from_source:
        argv.append("--no-build")
    code, output = sandbox.run(argv, listen, cancel)
    if code == 0:
        return Lock(text=output, from_source=from_source)
    reason = why(code, said)
    if not from_source and ("wheel" in reason or "building" in reason.lower()):
        raise NoWheelError(reason)
    raise BuildError(f"The packages can't be resolved: {reason} Correct `packages` in moorage.yaml and build again.")


def why(code: int, said: list[str], longest: int = 600) -> str:
    """Why a tool failed, from what it said at its end: one line without drawing characters, that ends in a stop."""
    if code < 0:
        return f"It was ended by signal {-code}, maybe because memory ran out."
    words = " ".join(" ".join(said[-40:]).translate(_DRAWING).split())
    words = words.partition("cause: ")[2] or words  # uv: what failed, then why, then hints
    words = words.partition(" hint: ")[0]
    text = words if len(words) <= longest else "... " + words[-longest:]
    return text if text.endswith((".", "?", "!")) else f"{text}."
