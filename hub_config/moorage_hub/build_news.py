"""Tells the person at the terminal how the first project environment is coming on, from the service's build logs."""

from pathlib import Path


class BuildNews:
    """The milestones of builds: the lines of their logs that are not indented.

    Silent on an installation that has an environment already: there, builds are told on the projects' pages.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "logs" / "builds"
        self._wanted = not any((state / "environments").glob("*/moorage-environment.json"))
        self._told: set[tuple[str, str]] = set()

    def lines(self) -> list[str]:
        """What is new since the last call."""
        found = []
        for path in sorted(self._folder.glob("*.log")) if self._wanted else []:
            for line in path.read_text(errors="replace").splitlines():
                if line[:1].strip() and (path.name, line) not in self._told:
                    self._told.add((path.name, line))
                    found.append(line)
        return found
