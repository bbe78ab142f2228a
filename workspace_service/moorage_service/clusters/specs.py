"""What may be asked of a cluster: bounds and amounts. Every refusal names the field, the value and the remedy."""

import re
from collections.abc import Collection

from moorage.wire import ClusterSpec, Size
from moorage_service.clusters.engines import ENGINES
from moorage_service.errors import BadRequest
from moorage_service.ledger.resources import Amounts, add, in_words, of_size

NAME = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
DEFAULT_WORKER = Size(cpu=1, memory=1 << 30)


def check_name(name: str) -> str:
    if not NAME.match(name):
        raise BadRequest(
            f"name: {name!r} can't be a cluster's name. Use lower-case letters, digits and hyphens, a letter first, at most 40.",
            field="name",
        )
    return name


def check(spec: ClusterSpec, head: Size, *, max_workers: int, gpu_types: Collection[str]) -> Amounts:
    """What the cluster holds at its maximum: head + max_workers x worker. Raises BadRequest naming the field."""
    if spec.min_workers < 0:
        raise BadRequest(
            f"min_workers: {spec.min_workers} is not a count. Give a number from 0 up.", field="min_workers"
        )
    if not 1 <= spec.max_workers <= max_workers:
        raise BadRequest(
            f"max_workers: {spec.max_workers} is out of range. Give 1 to {max_workers}.", field="max_workers"
        )
    if spec.min_workers > spec.max_workers:
        raise BadRequest(
            f"min_workers: {spec.min_workers} is more than max_workers, {spec.max_workers}. Lower it, or raise max_workers.",
            field="min_workers",
        )
    least = ENGINES[spec.engine].least_memory
    parts = []
    for role, size, count in (("head", head, 1), ("worker", spec.worker, spec.max_workers)):
        _check_size(role, size, least, gpu_types)
        parts.append(_amounts(role, size, count))
    if head.gpu:
        raise BadRequest(
            "head.gpu: the head runs no tasks, so a GPU would idle there. Leave it at 0.", field="head.gpu"
        )
    return add(*parts)


def _amounts(role: str, size: Size, count: int) -> Amounts:
    try:
        return of_size(size, count=count)
    except BadRequest as error:
        raise BadRequest(f"{role}.{error.message}", field=f"{role}.{error.field}") from error


def _check_size(role: str, size: Size, least: int, gpu_types: Collection[str]) -> None:
    if size.memory < least:
        raise BadRequest(
            f"{role}.memory: {in_words('memory', size.memory)} is too little. Give at least {in_words('memory', least)}.",
            field=f"{role}.memory",
        )
    if size.gpu_type is not None and size.gpu == 0:
        raise BadRequest(
            f"{role}.gpu_type: {size.gpu_type!r} without a GPU. Set gpu to 1 or more, or leave gpu_type out.",
            field=f"{role}.gpu_type",
        )
    if size.gpu_type is not None and size.gpu_type not in gpu_types:
        there = f"There are {', '.join(sorted(gpu_types))}" if gpu_types else "This machine has no GPUs"
        raise BadRequest(f"{role}.gpu_type: no GPU of type {size.gpu_type!r} here. {there}.", field=f"{role}.gpu_type")
