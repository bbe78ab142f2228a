"""From a manifest to what has to be built, and its name. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from moorage_images.interpreters import Interpreter
from moorage_images.manifest import Manifest
from moorage_images.wheel import ClientWheel

KERNEL = ("ipykernel>=6.29", "pip>=25")  # pip for %pip, which installs beside the environment, never into it
# Three Earley parsers built at every import of jsonschema, for two format checks nobody uses here: it would double
# the start of every Jupyter process, and of every Ray process in the same environment.
OVERRIDES = ("rfc3987-syntax; sys_platform == 'never'",)
_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class SystemPackages:
    """Debian packages by their names, sorted, and the digest of the image that they are installed on."""

    names: tuple[str, ...]
    base: str


@dataclass(frozen=True, kw_only=True)
class EnvironmentPlan:
    interpreter: Interpreter
    requirements: tuple[str, ...]  # the project's, then what Moorage needs in every project environment
    overrides: tuple[str, ...]
    client: ClientWheel
    system: SystemPackages | None = None  # below it, where they are installed


@dataclass(frozen=True, kw_only=True)
class Lock:
    """Exact versions with hashes. `from_source`: some have no wheel, so that building them runs their code."""

    text: str
    from_source: bool


def plan(manifest: Manifest, interpreters: Mapping[str, Interpreter], client: ClientWheel) -> EnvironmentPlan:
    """`interpreters` are the admin's, by "major.minor"; the manifest was parsed against the same list."""
    return EnvironmentPlan(
        interpreter=interpreters[manifest.python],
        requirements=(*manifest.packages, *KERNEL, *client.requires),
        overrides=OVERRIDES,
        client=client,
    )


def digest(plan: EnvironmentPlan, lock: Lock, project: str) -> str:
    """The environment's name: 40 hex digits.

    What is built from wheels alone is the same for every project. What ran a package's own code while it was built is
    never shared: its name holds the project's id.
    """
    parts: dict[str, object] = {
        "lock": sorted(line for line in lock.text.splitlines() if line.strip() and not line.startswith("#")),
        "python": plan.interpreter.version,
        "interpreter": str(plan.interpreter.path),
        "architecture": plan.interpreter.architecture,
        "client": plan.client.sha256,
        "project": project if lock.from_source else None,
    }
    if plan.system is not None:  # so that an environment without any keeps its name
        parts["system"] = {"names": plan.system.names, "base": plan.system.base}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def install_lines(plan: EnvironmentPlan, lock: Lock, wheel: Path) -> str:
    """The requirements file of the installation: the lock, and our own wheel at `wheel` by its hash."""
    client = f"{plan.client.name} @ {wheel.as_uri()} --hash=sha256:{plan.client.sha256}"
    return f"{lock.text.rstrip()}\n{client}\n"


def locked(plan: EnvironmentPlan, lock: Lock) -> dict[str, str]:
    """Name -> version of what the lock names, and of the client: what is installed, told without a look at the tree."""
    pinned = (_PINNED.match(line) for line in lock.text.splitlines())
    found = {canonicalize_name(one[1]): one[2] for one in pinned if one}
    return dict(sorted({**found, canonicalize_name(plan.client.name): plan.client.version}.items()))
