"""The starter project, made at the first start: open to all, with its first build queued."""

from sqlalchemy import select

from moorage_images import template
from moorage_service.context import Context
from moorage_service.projects import archive, builds, manifests
from moorage_service.store.tables import ProjectRow


def seed_starter(context: Context) -> None:
    """Does nothing when there has been any project, even one that is deleted now."""
    if not context.settings.seed_starter:
        return
    text = template.manifest()
    name = manifests.check(context.settings, text).name
    files = archive.keep(context.settings, template.contents())
    with context.database.begin() as session:
        if session.scalar(select(ProjectRow.id).limit(1)) is not None:
            return
        now = context.clock()
        project = ProjectRow(
            slug=template.STARTER_SLUG, name=name, manifest=text, files=files, open_to_all=True, created_at=now
        )
        session.add(project)
        session.flush()
        builds.queue(session, project, requested_by=None, now=now)
    context.wakeup.notify()
