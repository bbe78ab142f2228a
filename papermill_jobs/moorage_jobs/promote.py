"""From what was sent to what a job version pins: the notebook checked, its outputs left out, its parameters read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage.promotion import NotANotebookError, notebook_code, strip_outputs
from moorage.wire.clusters import EngineName
from moorage.wire.jobs import Parameter, SnapshotFile
from moorage_jobs import parameters, snapshot
from moorage_jobs.clusters_used import engine_used
from moorage_jobs.errors import SourceError

_MAX_CELLS = 5_000
_MAX_CODE = 1 << 20  # characters: reading code takes hundreds of times its size in memory


@dataclass(frozen=True)
class Source:
    """What is promoted: the notebook's path among the files, the files as they go into the snapshot, the notebook's
    parameters.
    """

    notebook: str
    files: dict[str, bytes]
    parameters: list[Parameter]
    engine: EngineName | None  # of the cluster that the notebook attaches to


def inspect(notebook: str, files: list[SnapshotFile]) -> Source:
    """Checks the files of a PromoteRequest. Raises SourceError or ParameterError with a sentence; writes nothing.

    Outputs and execution counts are left out, so that running a notebook again does not make it another source.
    """
    contents = snapshot.decode(files)
    path = snapshot.checked_path(notebook)
    if path not in contents:
        raise SourceError(f"notebook: '{path}' is not among the files that were sent.", field="notebook")
    if not path.endswith(".ipynb"):
        raise SourceError(f"notebook: '{path}' does not end in .ipynb. Give the notebook's own path.", field="notebook")
    try:
        contents[path] = strip_outputs(contents[path])
    except NotANotebookError as error:
        raise SourceError(f"notebook: '{path}' cannot be promoted: {error}", field="notebook") from None
    document = json.loads(contents[path])
    _check_kernel(path, document)
    if len(document["cells"]) > _MAX_CELLS:
        raise SourceError(f"notebook: '{path}' has more than {_MAX_CELLS} cells.", field="notebook")
    code = notebook_code(contents[path])
    if (length := sum(map(len, code))) > _MAX_CODE:
        raise SourceError(
            f"notebook: '{path}' has {length} characters of code; a job's notebook may have {_MAX_CODE}. Keep data in files "
            "beside it, and code in modules.",
            field="notebook",
        )
    engine = engine_used(code)
    return Source(path, contents, parameters.infer(document), engine)


def _check_kernel(path: str, document: Mapping[str, Any]) -> None:
    metadata = document.get("metadata", {})
    spec, info = (_object(metadata.get(name)) for name in ("kernelspec", "language_info"))
    language = str(spec.get("language") or info.get("name") or "python").lower()[:80]
    if language not in {"python", "ipython"}:
        raise SourceError(
            f"notebook: '{path}' is written in {language}; jobs run Python notebooks in the project's environment.",
            field="notebook",
        )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
