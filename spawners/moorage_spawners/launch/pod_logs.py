"""What a container writes, line by line, while it runs."""

from collections.abc import AsyncGenerator

import aiohttp
from kubernetes_asyncio.client import ApiClient

from moorage_spawners.launch.api_objects import CONNECT_S, Unanswered, probe_while_silent

SILENCE_S = 100.0
LONGEST_LINE = 2000  # bytes; the rest of a longer one is left out


async def lines(
    api: ApiClient, namespace: str, pod: str, container: str, *, longest: int = LONGEST_LINE
) -> AsyncGenerator[str, None]:
    """From its beginning on, without their ends, until it ends or the stream does. Raises Unanswered, also after `SILENCE_S` seconds
    without a byte: ask again, and leave out as many lines as have come.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    try:
        response = await api.call_api(
            path, "GET", query_params=[("container", container), ("follow", "true")], header_params={"Accept": "*/*"},
            auth_settings=["BearerToken"], _preload_content=False, _request_timeout=limits,
        )  # fmt: skip
        async with response:
            probe_while_silent(response)
            if response.status != 200:
                raise Unanswered(
                    f"The log of pod {pod} can't be read just now: the API server answered {response.status}."
                )
            rest = bytearray()
            async for chunk in response.content.iter_any():
                *ended, last = chunk.split(b"\n")
                for piece in ended:
                    rest += piece[: longest - len(rest)]
                    yield rest.decode(errors="replace").rstrip("\r")
                    rest.clear()
                rest += last[: longest - len(rest)]
            if rest:
                yield rest.decode(errors="replace")
    except (aiohttp.ClientError, OSError) as error:
        raise Unanswered(f"The log of pod {pod} can't be read just now: {error}") from error
