"""What a part answers when it is asked how it is: the same questions on each platform, put to other places."""

import time

import httpx
from sqlalchemy import select

from moorage.wire import Part
from moorage_service.context import Context
from moorage_service.store.tables import BuildRow

ASK_S = 3.0  # a page waits for this


def of_proxy(at: httpx.URL, public: httpx.URL) -> Part:
    """Whether the proxy at this address leads to the hub, asked for as a browser asks."""
    begun = time.perf_counter()
    headers = {"Host": public.netloc.decode()}
    try:
        answer = httpx.get(at.copy_with(raw_path=b"/hub/health"), headers=headers, timeout=ASK_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Part(name="proxy", ok=False, says=f"It does not lead to the hub: {type(error).__name__}")
    took = (time.perf_counter() - begun) * 1000
    says = f"leads to the hub in {took:.0f} ms" if answer.is_success else f"answers {answer.status_code} for the hub"
    return Part(name="proxy", ok=answer.is_success, says=says)


def of_builder(context: Context) -> Part:
    with context.database.read() as session:
        states = list(session.scalars(select(BuildRow.state).where(BuildRow.state.in_(("queued", "building")))))
    waiting, running = states.count("queued"), states.count("building")
    return Part(name="builder", ok=True, says=f"{running} running, {waiting} waiting" if waiting or running else "idle")
