"""The picture of the sizing widget: an anywidget whose front end is one ES module beside this file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent / "static"


class SizingView(anywidget.AnyWidget):
    """Shows one dict, `view`; what the person does comes as messages."""

    _esm = (_HERE / "sizing.js").read_text(encoding="utf-8")
    _css = (_HERE / "sizing.css").read_text(encoding="utf-8")
    # The front end comes from the notebook server's environment, this half from the project's: any two releases do, for
    # nothing but the oldest features is used. Left alone, 0.9 here would refuse 0.11 there.
    _model_module_version = traitlets.Unicode("*").tag(sync=True)
    _view_module_version = traitlets.Unicode("*").tag(sync=True)
    view = traitlets.Dict({}).tag(sync=True)

    def show(self, view: dict[str, Any]) -> None:
        self.view = view

    def heard_by(self, handle: Callable[[dict[str, Any]], None]) -> None:
        def hear(_widget: object, content: object, _buffers: object) -> None:
            if isinstance(content, dict):
                handle(content)

        self.on_msg(hear)
