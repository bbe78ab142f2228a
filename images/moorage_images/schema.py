"""The JSON schema of moorage.yaml: the one description that editors, the parser and the documentation share.

`errorMessage` is shown by editors (yaml-language-server) and is the remedy in the parser's own sentences.
The published file `moorage.schema.json` is made by `python -m moorage_images.schema` and held equal by a test.
"""

import json
import sys
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).with_name("moorage.schema.json")

Node = dict[str, Any]

MEMORY = r"^[0-9]+(\.[0-9]+)?\s*(KiB|MiB|GiB|TiB|kB|MB|GB|TB)$"
ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"


def _text(description: str, *, pattern: str | None = None, remedy: str | None = None, longest: int = 200) -> Node:
    node: Node = {"type": "string", "description": description, "minLength": 1, "maxLength": longest}
    if pattern:
        node["pattern"] = pattern
    if remedy:
        node["errorMessage"] = remedy
    return node


def _count(description: str, least: int, most: int, remedy: str) -> Node:
    return {"type": "integer", "description": description, "minimum": least, "maximum": most, "errorMessage": remedy}


def _object(description: str, properties: Node, required: tuple[str, ...] = (), **more: Any) -> Node:
    node: Node = {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
    }
    if required:
        node["required"] = list(required)
    return node | more


def _size() -> Node:
    return _object(
        "What one machine gets.",
        {
            "cpu": {
                "type": "number",
                "description": "Cores.",
                "minimum": 0.1,
                "maximum": 1024,
                "errorMessage": "Give cores as a number, for instance 1 or 0.5.",
            },
            "memory": _text(
                "Memory with its unit, for instance 2GiB.",
                pattern=MEMORY,
                remedy="Give a number with a unit, for instance 2GiB or 512MiB.",
            ),
            "gpu": _count("GPUs of one type.", 0, 64, "Give a whole number of GPUs, 0 for none."),
            "gpu_type": _text("The type of GPU, as the limits page names it.", longest=60),
        },
        ("cpu", "memory"),
        errorMessage="Give cpu and memory, for instance {cpu: 1, memory: 2GiB}.",
    )


def _cluster(*, with_engine: bool) -> Node:
    remedy = "Give a whole number of workers."
    properties: Node = {
        "min_workers": _count("Workers that are there as soon as the cluster is ready.", 0, 1000, remedy),
        "max_workers": _count("Workers it may grow to; limits count the cluster at this size.", 1, 1000, remedy),
        "worker": _size(),
    }
    if not with_engine:
        return _object("What a cluster of this engine starts with in the widget and the form.", properties, ("worker",))
    engine = {"enum": ["ray", "dask"], "description": "What the cluster runs.", "errorMessage": "Choose ray or dask."}
    return _object("A fresh cluster for each run.", {"engine": engine, **properties}, ("engine", "worker"))


def _job() -> Node:
    return _object(
        "A notebook of this project to be promoted.",
        {
            "notebook": _text(
                "Path of the notebook in the project.",
                pattern=r"^(?!/)(?!.*\.\.).+\.ipynb$",
                longest=400,
                remedy="Give a path below the project that ends in .ipynb, for instance reports/daily.ipynb.",
            ),
            "files": {
                "type": "array",
                "description": "Files beside it that it needs.",
                "maxItems": 200,
                "items": _text(
                    "Path in the project.",
                    pattern=r"^(?!/)(?!.*\.\.).+$",
                    longest=400,
                    remedy="Give a path below the project, without '..'.",
                ),
            },
            "schedule": _text(
                "Five cron fields: minute, hour, day of month, month, day of week (0 is Sunday).",
                pattern=r"^\s*\S+(\s+\S+){4}\s*$",
                remedy='Give five cron fields, for instance "0 6 * * *" for six in the morning every day.',
            ),
            "timezone": _text("IANA name of the time zone of the schedule.", longest=60),
            "parameters": {
                "type": "object",
                "description": "Values for the notebook's parameters.",
                "propertyNames": {"pattern": r"^[A-Za-z_][A-Za-z0-9_]*$"},
            },
            "secrets": {
                "type": "array",
                "description": "Names of secrets that the run may see.",
                "uniqueItems": True,
                "items": _text(
                    "Name of a secret.",
                    pattern=ENVIRONMENT_NAME,
                    longest=100,
                    remedy="Give the name of a secret: letters, digits and underscores.",
                ),
            },
            "size": _size(),
            "cluster": _cluster(with_engine=True),
            "timeout_s": _count(
                "Seconds after which a run is stopped.", 1, 30 * 86400, "Give seconds as a whole number."
            ),
        },
        ("notebook",),
    )


def schema() -> Node:
    """The whole schema (JSON Schema 2020-12)."""
    engines = {"ray": _cluster(with_engine=False), "dask": _cluster(with_engine=False)}
    properties = {
        "name": _text("The project's name, for people.", longest=100),
        "python": {
            "type": ["string", "number"],
            "description": "Python version of the project, major and minor; the installation's first when left out.",
            "errorMessage": 'Give major and minor version in quotes, for instance "3.11".',
        },
        "packages": {
            "type": "array",
            "description": "Python packages, as in a requirements file.",
            "maxItems": 500,
            "errorMessage": "Give a list of requirements, one a line, for instance `- pandas>=2`.",
            "items": _text(
                "One requirement, for instance pandas>=2.",
                longest=300,
                remedy='Give one requirement, for instance pandas>=2 or "ray[default]==2.60.0".',
            ),
        },
        "system": {
            "type": "array",
            "description": "Debian packages. Kept for container images; not installed on one machine.",
            "maxItems": 200,
            "uniqueItems": True,
            "items": _text(
                "Name of a Debian package.",
                pattern=r"^[a-z0-9][a-z0-9+.-]+$",
                longest=100,
                remedy="Give the name of a Debian package in lower case, for instance libgomp1.",
            ),
        },
        "clusters": _object("What a new cluster starts with, by engine.", engines),
        "jobs": {
            "type": "object",
            "description": "Jobs of this project, by name.",
            "maxProperties": 100,
            "propertyNames": {"pattern": r"^[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?$"},
            "additionalProperties": _job(),
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "moorage.yaml",
        **_object(
            "A Moorage project: its packages, what its clusters start with, and its jobs.", properties, ("name",)
        ),
    }


def published() -> str:
    """The text of `moorage.schema.json`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PUBLISHED.write_text(published(), encoding="utf-8")
    sys.exit(0)
