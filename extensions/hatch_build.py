"""Takes the JupyterLab extension into the wheel when it was built; without Node the wheel is whole but for it."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LabExtension(BuildHookInterface):  # type: ignore[type-arg]  # generic in newer releases only
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        built = Path(self.root) / "moorage" / "labextension"
        if version == "standard" and (built / "package.json").is_file():
            build_data["shared_data"][str(built)] = "share/jupyter/labextensions/moorage-labextension"
