"""Packages that %pip install put beside the project's environment: this kernel has them, workers do not."""

from importlib import metadata
from pathlib import Path

from moorage.environment import surroundings


def packages(folder: Path | None = None) -> list[str]:
    """Names with versions in the overlay, sorted: ["humanize 4.9.0"]. Empty without an overlay."""
    base = folder or surroundings().overlay
    if base is None:
        return []
    places = [base, *base.glob("lib/python*/site-packages")]
    found = {
        f"{one.metadata['Name']} {one.version}"
        for one in metadata.distributions(path=[str(place) for place in places if place.is_dir()])
        if one.metadata["Name"]
    }
    return sorted(found, key=str.lower)


def note(names: list[str]) -> str:
    """What to tell about them."""
    return (
        f"Not on workers: {', '.join(names)}. Only this kernel has what %pip installs. To have it in clusters and "
        "scheduled runs, add it to the packages in moorage.yaml and build the project (moorage project build)."
    )
