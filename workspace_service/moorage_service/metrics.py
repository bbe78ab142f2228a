"""Prometheus metrics: what an operator is woken by."""

from prometheus_client import Counter, Gauge, Histogram

REFUSED = Counter("moorage_admissions_refused_total", "Admissions refused, by limited resource.", ["resource"])
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
