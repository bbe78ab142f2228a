"""What the health page says of an installation on one machine, beside what is the same everywhere."""

import os
import shutil
from collections.abc import Iterator

import httpx

from moorage.origins import is_loopback
from moorage.wire import Part
from moorage_service.context import Context
from moorage_service.watch import answers

LOG = "service.log"
ROOM = "Make room before builds and runs fail."


def parts(context: Context) -> Iterator[Part]:
    yield from _proxy(context)
    yield _builder(context)


def _proxy(context: Context) -> Iterator[Part]:
    """Only one on this machine: what stands in front of it may be out of our reach."""
    url = httpx.URL(context.settings.public_url)
    if is_loopback(url.host):
        yield answers.of_proxy(url.copy_with(host="127.0.0.1" if url.host == "localhost" else url.host), url)


def _builder(context: Context) -> Part:
    if shutil.which(context.settings.uv) is None:
        says = f"The program {context.settings.uv!r} is not there: no environment can be built. Set `uv`, or run `make up`."
        return Part(name="builder", ok=False, says=says)
    return answers.of_builder(context)


def advice(context: Context) -> Iterator[str]:
    if context.no_wall is not None:
        yield context.no_wall
    if (advisory := context.advisory) is not None:
        yield advisory
    if os.geteuid() == 0 and context.settings.origins == "one":
        yield (
            "All users' notebooks share one origin with the portal, so a page of one user's notebook can act as whoever opens it. "
            "Give `public_url` a name with wildcard DNS and set `origins: per-user`."
        )
