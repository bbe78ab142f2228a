"""Tells the person at the terminal how the first project environment is coming on, from the service's build logs."""

from pathlib import Path


class BuildNews:
    """The milestones of builds: the lines of their logs that are not indented.

    Silent on an installation that has an environment already: there, builds are told on the projects' pages.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "logs" / "builds"
        self._environments = state / "environments"
        self._wanted = not self._built()
        self._built_before = False
        self._told: set[tuple[str, str]] = set()

    def lines(self) -> list[str]:
        """What is new since the last call."""
        if not self._wanted:
            return []
        built = self._built()
        found = []
        for path in sorted(self._folder.glob("*.log")):
            for line in path.read_text(errors="replace").splitlines():
                if line[:1].strip() and (path.name, line) not in self._told:
                    self._told.add((path.name, line))
                    found.append(line)
        # Once more after the first look that finds one: the build's last line follows the environment.
        self._wanted = not (built and self._built_before)
        self._built_before = built
        return found

    def _built(self) -> bool:
        return any(self._environments.glob("*/moorage-environment.json"))
