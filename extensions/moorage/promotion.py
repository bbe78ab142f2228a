"""What goes into a job's source snapshot: the notebook without its outputs, and the local modules that it imports.

Standard library only: it runs in a kernel, in a terminal and in the service. Nothing is imported or executed; code is
read by `ast`.
"""

import ast
import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from moorage.pycode import parsed
from moorage.wire.jobs import ParameterType, SnapshotFile

_MAX_NOTEBOOK_BYTES = 100 * 2**20  # with outputs, before they are left out
_VOLATILE_CELL = ("execution", "papermill", "collapsed", "scrolled")
_VOLATILE_NOTEBOOK = ("papermill", "widgets", "signature")


class NotANotebookError(ValueError):
    """The bytes are no notebook of format 4. Its text is a sentence that says why."""


def collect(notebook: str | Path, include: Iterable[str] = ()) -> list[SnapshotFile]:
    """The notebook and the `.py` files beside it that it imports, directly or through one another; paths are relative
    to its folder.

    `include` names further files or glob patterns below that folder. Raises NotANotebookError, or FileNotFoundError
    with a sentence if the notebook or an included file is not there.
    """
    path = Path(notebook)
    if not path.is_file():
        raise FileNotFoundError(f"There is no notebook at '{path}'. Give the path of an .ipynb file.")
    folder = path.parent.resolve()
    content = strip_outputs(path.read_bytes())
    found: dict[str, bytes] = {path.name: content}
    for module in local_modules(folder, notebook_code(content)):
        found[module] = (folder / module).read_bytes()
    for pattern in include:
        for file in _included(folder, pattern):
            found.setdefault(file, (folder / file).read_bytes())
    return [SnapshotFile(path=name, content=base64.b64encode(data).decode()) for name, data in sorted(found.items())]


def strip_outputs(content: bytes) -> bytes:
    """The notebook as canonical JSON without outputs, execution counts and what only the last execution left in its
    metadata.

    The same cells and tags give the same bytes, whether or not they were run. Raises NotANotebookError.
    """
    if len(content) > _MAX_NOTEBOOK_BYTES:
        raise NotANotebookError(
            f"it has {len(content)} bytes, more than {_MAX_NOTEBOOK_BYTES}. Clear its outputs, and save it."
        )
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise NotANotebookError("it is not JSON. Open it in JupyterLab, save it, and try again.") from None
    if not isinstance(document, dict) or document.get("nbformat") != 4 or not isinstance(document.get("cells"), list):
        raise NotANotebookError("it is no notebook of format 4. Open it in JupyterLab, save it, and try again.")
    for cell in document["cells"]:
        _strip_cell(cell)
    metadata = document.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise NotANotebookError("its metadata is no JSON object. Open it in JupyterLab, save it, and try again.")
    for name in _VOLATILE_NOTEBOOK:
        metadata.pop(name, None)
    # The patch version of the interpreter that last ran it says nothing about the source.
    if isinstance(metadata.get("language_info"), dict):
        metadata["language_info"].pop("version", None)
    try:
        return json.dumps(document, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"
    except (UnicodeEncodeError, RecursionError):
        raise NotANotebookError(
            "it holds half a character (a lone surrogate), or is nested too deeply. Find the cell, and write it anew."
        ) from None


def _strip_cell(cell: Any) -> None:
    source = cell.get("source", "") if isinstance(cell, dict) else None
    lines = [source] if isinstance(source, str) else source
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise NotANotebookError("one of its cells is no cell. Open it in JupyterLab, save it, and try again.")
    cell["source"] = "".join(lines)
    metadata = cell.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise NotANotebookError("the metadata of one of its cells is no JSON object.")
    for name in _VOLATILE_CELL:
        metadata.pop(name, None)
    if cell.get("cell_type") == "code":
        cell["outputs"] = []
        cell["execution_count"] = None


def notebook_code(content: bytes) -> list[str]:
    """The sources of a notebook's code cells."""
    return ["".join(cell.get("source", "")) for cell in json.loads(content)["cells"] if cell.get("cell_type") == "code"]


def local_modules(folder: Path, cells: Iterable[str]) -> list[str]:
    """Paths (relative to `folder`, with '/') of the modules there that the sources import, transitively, sorted.

    Understands modules, packages with and without `__init__.py`, relative imports within packages, and `%run
    helper.py`.
    """
    found: set[str] = set()
    waiting: list[str] = []
    for source in cells:
        for name in _imported(source, package=()):
            waiting += _resolve(folder, name)
        waiting += [script for script in _run_scripts(source) if (folder / script).is_file()]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        package = PurePosixPath(path).parent.parts
        try:
            source = (folder / path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for name in _imported(source, package):
            waiting += _resolve(folder, name)
    return sorted(found)


def _imported(source: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names that a source may import, as tuples; for `from a import b` both a and a.b."""
    try:
        tree = parsed(_without_magics(source))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                if node.level > len(package) + 1:
                    continue
                base = package[: len(package) - node.level + 1] + base
            if base:
                yield base
            for alias in node.names:
                yield (*base, alias.name)


def _resolve(folder: Path, name: tuple[str, ...]) -> list[str]:
    """The files that importing a dotted name would read below the folder: each package's `__init__.py`, and the
    module.
    """
    files = []
    for end in range(1, len(name) + 1):
        stem = "/".join(name[:end])
        if (folder / stem / "__init__.py").is_file():
            files.append(f"{stem}/__init__.py")
        elif (folder / f"{stem}.py").is_file():
            files.append(f"{stem}.py")
            break
        elif not (folder / stem).is_dir():
            break
    return files


def _run_scripts(source: str) -> Iterator[str]:
    for line in source.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "%run":
            script = words[-1] if words[1].startswith("-") else words[1]
            script = script if script.endswith(".py") else f"{script}.py"
            if not script.startswith(("/", "~")) and ".." not in PurePosixPath(script).parts:
                yield str(PurePosixPath(script))


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        first, _, rest = source.lstrip().partition("\n")
        return rest if first.split()[0] in {"%%time", "%%timeit", "%%capture"} else ""
    lines = source.splitlines()
    return "\n".join(
        _blank(line) if line.lstrip()[:1] in {"%", "!", "?"} or line.rstrip().endswith("?") else line for line in lines
    )


def _blank(line: str) -> str:
    return line[: len(line) - len(line.lstrip())] + "pass"


def _included(folder: Path, pattern: str) -> list[str]:
    if pattern.startswith(("/", "~")) or ".." in PurePosixPath(pattern).parts:
        raise FileNotFoundError(
            f"'{pattern}' does not lie below the notebook's folder. Copy the file there, or leave it out."
        )
    files = sorted(file.relative_to(folder).as_posix() for file in folder.glob(pattern) if file.is_file())
    if not files:
        raise FileNotFoundError(f"No file below the notebook's folder matches '{pattern}'.")
    return files


def value_from_text(kind: ParameterType, text: str) -> Any:
    """A parameter's value from what a person typed: text stays as it is, everything else is read as JSON.

    `yes`, `no`, `on`, `off` count as booleans. Text that is no such value comes back as text, for the service to refuse
    by name.
    """
    if kind == "str":
        return text
    if kind == "bool":
        known = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        return known.get(text.strip().lower(), text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
