"""Waiting for a server of our own to answer, so that the hub's first look finds it ready."""

import asyncio
import math
import socket
import time
from collections.abc import Callable

import httpx

from moorage_spawners.launch import Observation
from moorage_spawners.launch.peers import listeners

POLL_S = 0.025
LONGEST_POLL_S = 0.5


class NotReady(Exception):
    """The server ended, or did not answer in time; the text is a sentence."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def check_owner(port: int, uid: int | None) -> None:
    """Raises NotReady when somebody else took the port before our server did: the hub must not lead a user there."""
    others = set() if uid is None else listeners(port) - {uid}
    if others:
        raise NotReady(
            f"Port {port} was taken by another user of this machine before the notebook server. Start it again."
        )


async def wait_until_ready(url: str, observe: Callable[[], Observation | None], *, within: float = math.inf) -> None:
    """Returns once `url` answers at all (an answer below 500). Raises NotReady when the process ends before, or too late."""
    begun = time.monotonic()
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while True:
            try:
                if (await client.get(url)).status_code < 500:
                    return
            except httpx.TransportError:
                pass  # nobody listens yet
            seen = observe()
            if seen is None or seen.gone:
                raise NotReady(_ended(seen))
            waited = time.monotonic() - begun
            if waited > within:
                raise NotReady(f"The notebook server did not answer within {within:.0f} s.")
            await asyncio.sleep(
                min(LONGEST_POLL_S, max(POLL_S, waited / 20))
            )  # often at first, when it may come any moment


def _ended(seen: Observation | None) -> str:
    if seen is None:
        return "The notebook server was stopped while it started."
    if seen.out_of_memory:
        return "The notebook server ran out of memory while it started; choose a size with more memory."
    if seen.message:
        return f"The notebook server ended while it started. {seen.message}"
    how = f"by signal {seen.signal}" if seen.signal else f"with exit status {seen.exit_code}"
    return f"The notebook server ended while it started, {how}."
