"""What a person may ask of a notebook: validated in one place, for the form and the API alike."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage.quantities import InvalidQuantity, parse_count, parse_cpu, parse_memory
from moorage.wire.workloads import Size

KEYS = ("project", "cpu", "memory", "gpu", "gpu_type")
_DIGITS = re.compile(r"\s*[0-9]{1,20}\s*", re.ASCII)


class BadOption(ValueError):
    """An option that cannot be used; the text is a sentence that names field, value and remedy."""


@dataclass(frozen=True)
class NotebookOptions:
    project: str
    size: Size


def read_options(given: Mapping[str, Any], server_name: str, default: Size) -> NotebookOptions:
    """Reads the hub's `user_options`. What is left out comes from `default`; the project from the server's name.

    Values may be text (a form, a query) or numbers (the API). Raises BadOption.
    """
    plain = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in given.items()}
    unknown = sorted(set(plain) - set(KEYS))
    if unknown:
        raise BadOption(f"{unknown[0][:80]} is no option of a notebook; those there are: {', '.join(KEYS)}.")
    try:
        cpu = parse_cpu(plain["cpu"], "cpu") if plain.get("cpu") not in (None, "") else default.cpu
        memory = (
            parse_memory(_number(plain["memory"]), "memory")
            if plain.get("memory") not in (None, "")
            else default.memory
        )
        gpu = parse_count(plain["gpu"], "gpu") if plain.get("gpu") not in (None, "") else default.gpu
    except InvalidQuantity as error:
        raise BadOption(str(error)) from error
    gpu_type = plain.get("gpu_type") or None
    if gpu_type is not None and not isinstance(gpu_type, str):
        raise BadOption(f"gpu_type {gpu_type!r:.80} is not a text; write the name of a GPU type, such as a100.")
    if gpu_type is not None and gpu == 0:
        raise BadOption(f"gpu_type is {gpu_type!r:.80} but gpu is 0; ask for at least one gpu, or leave gpu_type out.")
    return NotebookOptions(
        _project(plain.get("project"), server_name), Size(cpu=cpu, memory=memory, gpu=gpu, gpu_type=gpu_type)
    )


def _project(given: Any, server_name: str) -> str:
    project = given or server_name
    if not project:
        raise BadOption(
            "A notebook belongs to a project; start it from the project's page, or name the server after it."
        )
    if project != server_name:
        raise BadOption(
            f"project is {project!r:.80} but the server is named {server_name or '(unnamed)'!r}; "
            "a project's server carries the project's name."
        )
    return str(project)


def _number(value: Any) -> Any:
    """A form sends bytes as digits only."""
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
