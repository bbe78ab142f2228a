"""What becomes of environments' images over time: put onto a new notebook image, and taken away when nothing refers to them."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import CompoundSelect, and_, or_, select, union
from sqlalchemy.orm import Session

from moorage_images.errors import ImagesError
from moorage_images.oci.append import reappend
from moorage_images.oci.collect import decide, listing
from moorage_images.oci.image import own_architecture
from moorage_images.oci.reference import Reference, parse
from moorage_images.oci.registry import Registry
from moorage_images.pod_build import Found
from moorage_service.context import Context
from moorage_service.projects.platforms import registry
from moorage_service.store.tables import EnvironmentRow, JobVersionRow, ProjectRow, WorkloadRow

log = logging.getLogger(__name__)

COLLECT_EVERY = timedelta(days=1)
# In the state folder; without them every image has its days anew.
UNUSED, UNUSED_SYSTEM = "unused-images.json", "unused-system-images.json"


def in_use(session: Session) -> set[str]:
    """The digests of environments that a project, a job's version or what runs refers to."""
    found: CompoundSelect[Any] = union(
        select(ProjectRow.environment).where(ProjectRow.deleted_at.is_(None)),
        select(JobVersionRow.environment).where(JobVersionRow.state != "retired"),
        select(WorkloadRow.environment).where(WorkloadRow.ended_at.is_(None)),
    )
    return {digest for digest in session.scalars(found) if digest is not None}


@dataclass(frozen=True, kw_only=True)
class Outdated:
    digest: str
    python: str
    image: str


def on_other_bases(context: Context, base: Reference, system: Reference) -> list[Outdated]:
    """The environments in use whose image lies on another base than this one. Those on an image of the repository `system` have Debian
    packages, which no other base has: they are built again when somebody asks.
    """
    with context.database.read() as session:
        rows = session.scalars(
            select(EnvironmentRow).where(
                EnvironmentRow.digest.in_(in_use(session)),
                EnvironmentRow.image.is_not(None),
                or_(
                    EnvironmentRow.base.is_(None),
                    and_(EnvironmentRow.base != str(base), EnvironmentRow.base.not_like(f"{system}@%")),
                ),
            )
        )
        return [
            Outdated(digest=row.digest, python=row.python, image=row.image) for row in rows if row.image is not None
        ]


def move(context: Context, known: Registry, outdated: Sequence[Outdated], base: Reference, has: Found) -> None:
    """Appends their layers to the base, which `has` a Python; those made for another one stay where they are until they are built."""
    assert context.settings.kubernetes is not None
    for each in outdated:
        context.leadership.require()
        if _minor(each.python) != _minor(has.version):
            log.warning(
                "environment %s is for Python %s, not that of %s: build its project again",
                each.digest,
                each.python,
                base,
            )
            continue
        target = registry.target(context.settings.kubernetes, each.digest, base)
        try:
            moved = reappend(known, parse(each.image), base, target, architecture=own_architecture())
        except ImagesError as error:
            log.warning("environment %s can't be put onto %s: %s", each.digest, base, error.message)
            continue
        with context.database.begin() as session:
            row = session.get_one(EnvironmentRow, each.digest, with_for_update=True)
            if row.image == each.image:
                row.image, row.base = str(moved.reference), str(base)
        log.info("environment %s now lies on %s", each.digest, base)


@dataclass(kw_only=True)
class _Notes:
    """When images were looked through last, and since when each of the unused ones is so, by digest."""

    looked_at: datetime | None = None
    unused: dict[str, datetime] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> "_Notes":
        try:
            said = json.loads(path.read_text())
            return _Notes(
                looked_at=datetime.fromisoformat(said["looked_at"]),
                unused={digest: datetime.fromisoformat(since) for digest, since in said["unused"].items()},
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return _Notes()

    def write(self, path: Path) -> None:
        assert self.looked_at is not None
        unused = {digest: since.isoformat() for digest, since in sorted(self.unused.items())}
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps({"looked_at": self.looked_at.isoformat(), "unused": unused}, indent=1))
        fresh.rename(path)


def collect(context: Context, known: Registry, repository: Reference, system: Reference) -> None:
    """Once a day: takes away the images to which nothing has referred for `builds.keep_images_days`, of environments in `repository`, and
    in `system` those that they lie on. Raises RegistryError.

    Environments stay in the store without an image: whoever builds the same again gets a new one.
    """
    for each in _collect(context, known, repository, UNUSED, lambda row: row.image):
        log.warning("the image %s of an environment in use is not in the registry: build its project again", each)
    _collect(context, known, system, UNUSED_SYSTEM, lambda row: row.base)


def _collect(
    context: Context,
    known: Registry,
    repository: Reference,
    notes_file: str,
    refers: Callable[[EnvironmentRow], str | None],
) -> Sequence[Reference]:
    """`refers`: to which image an environment does, if it is used. Those that are not there."""
    assert context.settings.kubernetes is not None
    path, now = context.settings.state / notes_file, context.clock()
    notes = _Notes.read(path)
    if notes.looked_at is not None and now - notes.looked_at < COLLECT_EVERY:
        return ()
    long_ago = now - timedelta(days=context.settings.kubernetes.builds.keep_images_days)
    ripe = {digest for digest, since in notes.unused.items() if since <= long_ago}
    listed = listing(known, repository)
    with context.database.begin() as session:  # nobody begins to use one meanwhile; afterwards there is none to use
        context.leadership.require()
        rows = list(session.scalars(select(EnvironmentRow).where(EnvironmentRow.image.is_not(None))))
        used = in_use(session)
        wanted = {parse(image) for row in rows if row.digest in used and (image := refers(row)) is not None}
        decided = decide(repository, wanted, listed, ripe)
        gone = {str(each) for each in decided.gone}
        for row in rows:
            if row.image in gone:
                row.image, row.base = None, None
    for each in decided.gone:
        known.delete(each)
        log.info("the image %s was taken away: nothing refers to it any more", each)
    _Notes(looked_at=now, unused={digest: notes.unused.get(digest, now) for digest in decided.unused}).write(path)
    return decided.lost


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
