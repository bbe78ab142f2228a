"""One line per thing that happened, with the request, the user and the workload that it was about: as text, or as JSON for a collector.

What a line is about travels beside it: `within` names a workload for all that is logged inside, `note` adds to what the present request
knows of itself. Modules log through the standard library and say nothing of this.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TextIO

import structlog

LogFormat = Literal["text", "json"]
# One dict for a whole request: a dependency runs in a thread of its own, with a copy of the context, but the dict is the same.
_about: ContextVar[dict[str, str] | None] = ContextVar("moorage_log_about", default=None)
_QUIET = ("httpx", "httpcore", "alembic", "uvicorn.access")


def configure(form: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Sends everything that is logged in this process to `stream`. Call it once."""
    shared: list[structlog.typing.Processor] = [
        _with_about,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendered(form)],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _rendered(form: LogFormat) -> list[structlog.typing.Processor]:
    if form == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    return [
        structlog.dev.ConsoleRenderer(
            colors=False, timestamp_key="at", pad_event_to=0, pad_level=False, sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]  # fmt: skip


def begin(request: str) -> dict[str, str]:
    """A request begins: what is logged during it names it. Returns the facts that `note` adds to."""
    facts = {"request": request}
    _about.set(facts)
    return facts


def note(**facts: str | None) -> None:
    """Adds to what the present request is about. Outside of one: nothing. None is left out."""
    known = _about.get()
    if known is not None:
        known.update({name: value for name, value in facts.items() if value is not None})


@contextmanager
def within(**facts: str) -> Iterator[None]:
    """What is logged inside is about `facts`, such as `workload=...`, too."""
    token = _about.set({**(_about.get() or {}), **facts})
    try:
        yield
    finally:
        _about.reset(token)


def _with_about(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    for name, value in (_about.get() or {}).items():
        event.setdefault(name, value)
    return event
