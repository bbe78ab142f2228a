"""What Moorage put into this process's environment. Read here, and nowhere else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where this process runs, as Moorage told it. All None on a machine that is no Moorage workload."""

    api_url: str | None = None  # the service as seen from here, without a slash at the end
    public_url: str | None = None  # the origin that a browser uses
    token: str | None = None
    project: str | None = None
    workload: str | None = None
    user: str | None = None
    cluster: str | None = None  # a run's own cluster
    overlay: Path | None = None  # where %pip installs: packages that workers do not have

    def link(self, path: str | None) -> str | None:
        """An address for a browser, of a path below the origin."""
        if path is None or "://" in path or self.public_url is None:
            return path
        return self.public_url.rstrip("/") + path


def surroundings(environ: Mapping[str, str] | None = None) -> Surroundings:
    """Read from the process's environment (or the given one); an empty variable counts as absent."""
    found = os.environ if environ is None else environ

    def text(name: str) -> str | None:
        return found.get(name) or None

    overlay = text("MOORAGE_OVERLAY")
    api_url = text("MOORAGE_API_URL")
    return Surroundings(
        api_url=None if api_url is None else api_url.rstrip("/"),
        public_url=text("MOORAGE_PUBLIC_URL"),
        token=text("MOORAGE_TOKEN"),
        project=text("MOORAGE_PROJECT"),
        workload=text("MOORAGE_WORKLOAD"),
        user=text("MOORAGE_USER"),
        cluster=text("MOORAGE_CLUSTER"),
        overlay=None if overlay is None else Path(overlay),
    )
