"""The IPython extension of Moorage's kernels: marks what `%pip` installs as "not on workers".

Loaded by `--IPKernelApp.extensions=moorage` on the kernel's command line, or by `%load_ext moorage`.
"""

import importlib
from collections.abc import Callable
from typing import Any

from moorage import overlay

MAGICS = ("pip", "uv")


def install(shell: Any) -> None:
    """Wrap the installing magics of an IPython shell, once."""
    for name in MAGICS:
        magic = shell.find_line_magic(name)
        if magic is not None and not getattr(magic, "moorage_marks", False):
            shell.register_magic_function(marking(magic, shell), magic_kind="line", magic_name=name)


def marking(magic: Callable[[str], Any], shell: Any) -> Callable[[str], Any]:
    """The magic, followed by a note about packages that workers do not have."""

    def marked(line: str) -> Any:
        before = set(overlay.packages())
        result = magic(line)
        importlib.invalidate_caches()  # the overlay's folder may not have been there when Python first looked
        added = [name for name in overlay.packages() if name not in before]
        if added:
            shell.display_pub.publish({"text/plain": overlay.note(added)})
        return result

    marked.moorage_marks = True  # type: ignore[attr-defined]
    return marked
