"""What each platform can carry out in this release, and what there is to say of what it can't: for routes, pages, clock and health."""

from dataclasses import dataclass

from moorage_service.errors import NotOnThisPlatform


@dataclass(frozen=True, kw_only=True)
class Platform:
    """`no_clusters`, `no_jobs`: why there are none, in sentences that say what to do instead. None: there are.

    `one_machine`: workloads are processes of the machine that the service runs on, by whose means it keeps them apart and builds.
    """

    one_machine: bool
    no_clusters: str | None = None
    no_jobs: str | None = None

    def require_clusters(self) -> None:
        """Raises NotOnThisPlatform."""
        _refuse(self.no_clusters)

    def require_jobs(self) -> None:
        """Of all that jobs are: promotions, runs, schedules. Raises NotOnThisPlatform."""
        _refuse(self.no_jobs)


def _refuse(why_not: str | None) -> None:
    if why_not is not None:
        raise NotOnThisPlatform(why_not)


PLATFORMS = {
    "local": Platform(one_machine=True),
    "kubernetes": Platform(
        one_machine=False,
        no_clusters="There are no clusters on Kubernetes yet: they come with a later release of Moorage. Until then compute in the "
        "notebook itself, started with as many cores, GPUs and as much memory as it needs.",
        no_jobs="There are no jobs, runs and schedules on Kubernetes yet: they come with a later release of Moorage. Until then run "
        "the notebook by hand.",
    ),
}
