"""Prometheus metrics: what an operator is woken by. What the store can say by itself is in `gauges.py`."""

import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Histogram(
    "moorage_http_request_seconds",
    "From a request to the end of its answer, by method and status.",
    ["method", "status"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)

REFUSED = Counter(
    "moorage_admissions_refused_total",
    "Notebooks and clusters refused, by the resource that was short. Runs wait instead.",
    ["resource"],
)
ADMITTED = Counter("moorage_admissions_total", "Admissions, by kind of workload.", ["kind"])
ENDED = Counter("moorage_workloads_ended_total", "Workloads ended, by kind and final phase.", ["kind", "phase"])
LIVE = Gauge("moorage_workloads", "Workloads alive, by kind.", ["kind"])
TIME_TO_READY = Histogram(
    "moorage_time_to_ready_seconds",
    "From admission to ready, by kind.",
    ["kind"],
    buckets=(0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
RECONCILE = Histogram("moorage_reconcile_seconds", "One reconcile pass, by kind.", ["kind"])
RECONCILE_FAILED = Counter("moorage_reconcile_failures_total", "Reconcile steps that raised, by kind.", ["kind"])
FIRED_LATE = Histogram(
    "moorage_schedule_lag_seconds",
    "From a schedule's due time to its run's row.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 30),
)


class MeasureRequests:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = "500"

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(method, status).observe(time.perf_counter() - begun)


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # a client may invent more
