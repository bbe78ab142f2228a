"""Prometheus metrics: what an operator is woken by. What the store can say by itself is in `gauges.py`."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Histogram(
    "moorage_http_request_seconds",
    "From a request to the end of its answer, by method and status.",
    ["method", "status"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)

REFUSED = Counter(
    "moorage_admissions_refused_total",
    "Notebooks and clusters refused, by the limit's id and the resource that was short. Runs wait instead.",
    ["rule", "resource"],
)
ADMITTED = Counter("moorage_admissions_total", "Admissions, by kind of workload.", ["kind"])
ENDED = Counter(
    "moorage_workloads_ended_total",
    "Workloads ended, by kind, final phase and the code of the reason. Of runs: how they ended.",
    ["kind", "phase", "reason"],
)
LIVE = Gauge("moorage_workloads", "Workloads alive, by kind.", ["kind"])
TIME_TO_READY = Histogram(
    "moorage_time_to_ready_seconds",
    "On the way to ready, by kind and part of the way: waiting (for admission and a start), starting, all.",
    ["kind", "part"],
    buckets=(0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
RECONCILE = Histogram("moorage_reconcile_seconds", "One reconcile pass, by kind.", ["kind"])
RECONCILE_FAILED = Counter("moorage_reconcile_failures_total", "Reconcile steps that raised, by kind.", ["kind"])
MISSED = Counter(
    "moorage_schedules_missed_total",
    "Fires that were left out and recorded as such: missed, overlapping, or of a disabled user.",
)
ERRORS = Counter("moorage_errors_total", "Requests refused or failed, by status and stable code.", ["status", "code"])
FIRED_LATE = Histogram(
    "moorage_schedule_lag_seconds",
    "From a schedule's due time to its run's row.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 30),
)
