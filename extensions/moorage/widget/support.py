"""Whether a widget can be shown from this kernel, else why not and what to do."""

import importlib
from collections.abc import Mapping
from importlib import metadata

LEAST = {"ipywidgets": (8, 1), "anywidget": (0, 9)}


def why_no_widget(needed: Mapping[str, tuple[int, int]] = LEAST) -> str | None:
    """None when it can; else a sentence with the remedy."""
    for name, least in needed.items():
        wanted = ".".join(str(part) for part in least)
        try:
            importlib.import_module(name)
            version = metadata.version(name)
        except (ImportError, metadata.PackageNotFoundError):
            return (
                f"The sizing widget needs {name}, which this kernel's environment lacks. Add `{name}>={wanted}` to the "
                "packages in moorage.yaml, build the project and restart the notebook. Everything works without it:"
            )
        if _numbers(version) < least:
            return (
                f"The sizing widget needs {name} {wanted} or later, and this environment has {version}. Raise it in "
                "moorage.yaml, build the project and restart the notebook. Everything works without it:"
            )
    if importlib.import_module("IPython").get_ipython() is None:
        return "The sizing widget needs a notebook. Everything works without it:"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "8.1.9" -> (8, 1)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
