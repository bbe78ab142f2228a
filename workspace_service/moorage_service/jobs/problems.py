"""Errors of `moorage_jobs` as the service's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from moorage_jobs.errors import JobsError
from moorage_service.errors import BadRequest, NotFound


@contextmanager
def as_service_errors() -> Iterator[None]:
    """What the library refuses leaves as BadRequest or NotFound, with its own code, sentence and field."""
    try:
        yield
    except JobsError as error:
        kind = NotFound if error.status == NotFound.status else BadRequest
        raise kind(error.message, code=error.code, field=error.field) from error
