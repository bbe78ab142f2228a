"""moorage.yaml: what a project says about itself, typed. Source: the text; the schema is in `schema.py`."""

import functools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from moorage.quantities import InvalidQuantity, parse_memory
from moorage.wire import ClusterSpec, Schedule, Size
from moorage_images.errors import ManifestError
from moorage_images.faults import refusal, refusal_of
from moorage_images.schema import schema
from moorage_images.strictyaml import load


@dataclass(frozen=True, kw_only=True)
class JobDeclaration:
    """A job that the project declares; promoted with the project's files."""

    name: str
    notebook: str
    files: tuple[str, ...] = ()
    schedule: Schedule | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    size: Size | None = None
    cluster: ClusterSpec | None = None
    timeout_s: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    name: str
    python: str  # "3.11": one of the versions that the admin lists
    packages: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    clusters: dict[str, ClusterSpec] = field(default_factory=dict)  # engine -> what a new cluster starts with
    jobs: tuple[JobDeclaration, ...] = ()


def parse(text: str, pythons: Sequence[str]) -> Manifest:
    """Reads moorage.yaml. `pythons` are the admin's versions, the first is the default.

    Raises ManifestError with one sentence: field, value, remedy. The first fault in the text's order is named.
    """
    document = load(text)
    fault = min(_validator().iter_errors(document), key=lambda error: len(error.absolute_path), default=None)
    if fault is not None:
        raise refusal_of(fault)
    packages = document.get("packages", ())
    clusters = document.get("clusters", {})
    return Manifest(
        name=document["name"].strip(),
        python=_python(document.get("python"), pythons),
        packages=tuple(_package(f"packages[{index}]", package) for index, package in enumerate(packages)),
        system=tuple(document.get("system", ())),
        clusters={
            engine: _cluster(f"clusters.{engine}", {"engine": engine, **given}) for engine, given in clusters.items()
        },
        jobs=tuple(_job(name, given) for name, given in document.get("jobs", {}).items()),
    )


@functools.cache
def _validator() -> Any:
    stricter = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
    return stricter(schema())


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As in the editors' dialect, where `$` is the very end: Python's lets a last line break pass."""
    whole = f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern
    if isinstance(instance, str) and not re.search(whole, instance):
        yield jsonschema.ValidationError("it does not match")


def _python(given: Any, pythons: Sequence[str]) -> str:
    if given is None:
        return pythons[0]
    if str(given) in pythons:  # a bare 3.11 reads as the number that it looks like; a bare 3.10 does not
        return str(given)
    offered = ", ".join(f'"{version}"' for version in pythons)
    if not isinstance(given, str):
        raise refusal("python", f"{given!r} is a number here. Put it in quotes; this installation offers {offered}.")
    raise refusal("python", f"{given!r} is not offered here. Choose one of {offered}, or ask an admin to add it.")


def _package(place: str, text: str) -> str:
    bare = text.strip()
    if bare.startswith("-"):
        raise refusal(place, f"{bare!r} is an option, not a package. List packages only; an admin sets the index.")
    if bare.startswith((".", "/", "~")) or "://" in bare or "@" in bare:
        advice = "Name a package of the index and its version instead, for instance pandas==2.2.3."
        raise refusal(place, f"{bare!r} names a path or a URL. {advice}")
    try:
        requirement = Requirement(bare)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        advice = "Write for instance pandas>=2 or ray[default]==2.60.0."
        raise refusal(place, f"{bare!r} is not a requirement ({reason}). {advice}") from error
    if canonicalize_name(requirement.name).split("-")[0] == "moorage":
        advice = "Leave it out: every project environment has the client that fits."
        raise refusal(place, f"{bare!r} is Moorage's own. {advice}")
    return str(requirement)


def _size(place: str, given: dict[str, Any]) -> Size:
    if not math.isfinite(given["cpu"]):
        raise refusal(f"{place}.cpu", f"{given['cpu']} is not an amount. Give cores, for instance 1 or 0.5.")
    try:
        memory = parse_memory(given["memory"])
    except InvalidQuantity as error:
        raise ManifestError(f"{place}.{error}", field=f"{place}.memory") from error
    return Size(cpu=given["cpu"], memory=memory, gpu=given.get("gpu", 0), gpu_type=given.get("gpu_type"))


def _cluster(place: str, given: dict[str, Any]) -> ClusterSpec:
    least = given.get("min_workers", 1)
    most = given.get("max_workers", max(least, 1))
    if least > most:
        advice = "Lower it, or raise max_workers."
        raise refusal(f"{place}.min_workers", f"{least} is more than max_workers, which is {most}. {advice}")
    worker = _size(f"{place}.worker", given["worker"])
    return ClusterSpec(engine=given["engine"], min_workers=least, max_workers=most, worker=worker)


def _job(name: str, given: dict[str, Any]) -> JobDeclaration:
    place = f"jobs.{name}"
    schedule = None
    if "schedule" in given:
        schedule = Schedule(cron=given["schedule"], timezone=given.get("timezone", "UTC"))
    elif "timezone" in given:
        raise refusal(f"{place}.timezone", "there is no schedule that it could be for. Add schedule, or leave it out.")
    try:
        json.dumps(given.get("parameters", {}), allow_nan=False)
    except ValueError as error:
        advice = "Give texts, numbers, lists or mappings."
        raise refusal(f"{place}.parameters", f"a value is no finite number. {advice}") from error
    return JobDeclaration(
        name=name,
        notebook=given["notebook"],
        files=tuple(given.get("files", ())),
        schedule=schedule,
        parameters=given.get("parameters", {}),
        secrets=tuple(given.get("secrets", ())),
        size=_size(f"{place}.size", given["size"]) if "size" in given else None,
        cluster=_cluster(f"{place}.cluster", given["cluster"]) if "cluster" in given else None,
        timeout_s=given.get("timeout_s"),
    )
