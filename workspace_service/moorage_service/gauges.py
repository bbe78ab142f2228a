"""What the store says at the moment of a scrape: numbers without names, for `/metrics`."""

import shutil
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moorage_service import __version__
from moorage_service.context import Context
from moorage_service.ledger import admission
from moorage_service.ledger.resources import add, from_units
from moorage_service.store.tables import BuildRow, JobRow, QuarantineRow, UserRow, WorkloadRow


def registry_of(context: Context) -> CollectorRegistry:
    """One for each application: what it collects is of that application's store."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StoreGauges(context))
    return registry


class StoreGauges(Collector):
    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from self._of_this_process()
        info = GaugeMetricFamily("moorage_info", "The service's version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield _amounts("moorage_capacity", "What the machine lends, by resource.", self._context.capacity.amounts)
        with self._context.database.read() as session:
            held = [
                each.amounts for each in admission.holdings(session, now=self._context.clock()) if each.until is None
            ]
            yield _amounts("moorage_held", "What workloads hold now, by resource.", add(*held))
            yield self._phases(session)
            yield self._builds(session)
            yield GaugeMetricFamily("moorage_users", "Active users.", value=_count(session, UserRow.active))
            aside = session.scalar(select(func.count()).select_from(QuarantineRow)) or 0
            yield GaugeMetricFamily(
                "moorage_quarantined_records",
                "Records that can't be read and are set aside: 0, or somebody should look.",
                value=aside,
            )
            late = JobRow.next_fire_at < self._context.clock()
            yield GaugeMetricFamily(
                "moorage_schedules_due", "Schedules whose time has come and that have not fired: 0 but for moments.",
                value=_count(session, late & JobRow.archived.is_(False)),
            )  # fmt: skip

    def _of_this_process(self) -> Iterator[GaugeMetricFamily]:
        age = GaugeMetricFamily(
            "moorage_loop_age_seconds",
            "Since the last whole pass of each loop: how far it lags behind.",
            labels=["loop"],
        )
        for beat in self._context.heartbeats.all():
            age.add_metric([beat.loop], beat.age_s)
        yield age
        yield GaugeMetricFamily(
            "moorage_leading", "1 of the service process that acts: starts, ends, fires, builds. The others answer requests.",
            value=float(self._context.leadership.held()),
        )  # fmt: skip
        yield self._watch()
        usage = shutil.disk_usage(self._context.settings.state)
        yield GaugeMetricFamily("moorage_disk_free_bytes", "Free on the disk of the state folder.", value=usage.free)
        yield GaugeMetricFamily("moorage_disk_bytes", "The size of the disk of the state folder.", value=usage.total)

    def _watch(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "moorage_watch_age_seconds",
            "On Kubernetes: since the API server last bore out what is known of the pods.",
            labels=[],
        )
        if self._context.pods is not None:
            family.add_metric([], self._context.pods.heard_of()[0])
        return family

    def _phases(self, session: Session) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "moorage_workloads_by_phase", "Live workloads, by kind and phase.", labels=["kind", "phase"]
        )
        rows = session.execute(
            select(WorkloadRow.kind, WorkloadRow.phase, func.count())
            .where(WorkloadRow.ended_at.is_(None))
            .group_by(WorkloadRow.kind, WorkloadRow.phase)
        )
        for kind, phase, count in rows:
            family.add_metric([kind, phase], count)
        return family

    def _builds(self, session: Session) -> GaugeMetricFamily:
        family = GaugeMetricFamily("moorage_builds", "Builds that wait or run, by state.", labels=["state"])
        for state in ("queued", "building"):
            family.add_metric([state], _count(session, BuildRow.state == state))
        return family


def _amounts(name: str, text: str, amounts: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["resource"])
    for resource, units in sorted(amounts.items()):
        family.add_metric([resource], from_units(resource, units))
    return family


def _count(session: Session, condition: object) -> int:
    return session.scalar(select(func.count()).where(condition)) or 0  # type: ignore[arg-type]
