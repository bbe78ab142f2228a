"""Whether users' ports are walled off from one another, and the one place that sees to it (as root, by `PortWall`)."""

import logging
import os

from sqlalchemy import select

from moorage_service.context import Context
from moorage_service.store.tables import UserRow
from moorage_spawners.launch import WallError

log = logging.getLogger(__name__)
ONE_USER = "Moorage does not run as root: ports of notebooks and clusters answer whoever is on this machine and has their token."
SWITCHED_OFF = "`port_wall` is off in settings.yaml: ports of notebooks and clusters answer whoever is on this machine and has their token."


def raise_wall(context: Context) -> None:
    """As the service starts. `context.no_wall` says why there is none. In a cluster network policies stand in its place."""
    if not context.platform.one_machine:
        return
    settings = context.settings
    wall = context.machine.wall
    if os.geteuid() != 0:
        context.no_wall = ONE_USER
        return
    if settings.port_wall == "off":
        context.no_wall = SWITCHED_OFF
        wall.down()
        return
    users = range(settings.uid_first, settings.uid_first + settings.uid_count)
    with context.database.read() as session:
        mapped = {uid for uid in session.scalars(select(UserRow.uid)) if uid is not None and uid not in users}
    try:
        wall.up(users, mapped, context.machine.held_ports())
    except WallError as error:
        context.no_wall = f"{error} Until then the ports of notebooks and clusters answer every user of this machine who has their token."
        log.warning("users' ports are not walled off: %s", error)
    else:
        context.no_wall = None


def extend_wall(context: Context) -> None:
    """After an account was mapped to a user, whose uid lies outside of those set aside. No wall: nothing."""
    if context.no_wall is None:
        raise_wall(context)
