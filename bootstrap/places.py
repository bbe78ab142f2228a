"""Where things are: the checkout, the state folder, and what the set-up puts into it."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = ("extensions", "spawners", "hub_config", "images", "papermill_jobs", "workspace_service")


class SetupError(Exception):
    """Something that the person at the terminal must mend; the text is a sentence that says how."""


@dataclass(frozen=True)
class Places:
    """The state folder and the set-up's own parts of it."""

    state: Path

    @property
    def tools(self) -> Path:
        return self.state / "tools"

    @property
    def uv(self) -> Path:
        return self.tools / "bin" / "uv"

    @property
    def cache(self) -> Path:
        return self.state / "cache"

    @property
    def wheels(self) -> Path:
        return self.state / "wheels"

    @property
    def node(self) -> Path:
        return self.state / "node"

    def environment(self, name: str) -> Path:
        """`control` or `server`: a link to the folder of its present version."""
        return self.state / name


def state_folder() -> Path:
    """MOORAGE_HOME, else /var/lib/moorage as root, else .moorage in the checkout."""
    given = os.environ.get("MOORAGE_HOME")
    if given:
        return Path(given).absolute()
    return Path("/var/lib/moorage") if os.geteuid() == 0 else ROOT / ".moorage"


def prepare(state: Path) -> Places:
    """Makes the folders. As root all may pass through the state folder, for users' processes use the environments in it."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o755 if os.geteuid() == 0 else 0o700)
        places = Places(state)
        for folder, mode in (
            (places.tools, 0o755),
            (places.cache, 0o700),
            (places.wheels, 0o755),
            (places.node, 0o755),
        ):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
    except OSError as error:
        raise SetupError(
            f"The state folder {state} cannot be used ({error.strerror}). Set MOORAGE_HOME to a folder that you may write to."
        ) from error
    return places
