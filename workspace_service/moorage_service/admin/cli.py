"""The commands below `moorage admin`, plugged into `moorage` where the service is installed (entry point group `moorage.commands`)."""

from typing import Annotated

import typer

from moorage.cli.session import command, group, session
from moorage.errors import MoorageError
from moorage_service.admin import copies, rotate
from moorage_service.admin.options import State

SOUND, FOUND, BLIND = 0, 1, 2
MOST_REPAIRS = 5


def register(app: typer.Typer) -> None:
    """Called by `moorage` at each start, so what a command needs is imported by the command itself."""
    admin = group(
        app, "admin", "At the machine itself, as the account that runs Moorage: whether all is sound, and copies of it."
    )
    command(admin, "check")(check)
    command(admin, "backup")(copies.backup)
    command(admin, "restore")(copies.restore)
    rotate.register(admin)


def check(
    state: State = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is safe to mend, then check again.")] = False,
    patience: Annotated[
        float, typer.Option(help="Look again for so many seconds before something counts as found.", min=0)
    ] = 15.0,
) -> None:
    """Verify that nothing is orphaned, lost, held too long, doubled, stuck or unexplained.

    Exit status: 0 when all is sound, 1 when something was found, 2 when it could not be checked.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from moorage_service.admin import check as checks
    from moorage_service.admin.opening import AdminError, opened, state_folder
    from moorage_service.admin.repair import repair as mend

    now = session()
    try:
        with opened(state_folder(state)) as context:
            outcome = checks.examine(context, patience_s=patience)
            done: list[str] = []
            # What was ended leaves things behind that can be removed only afterwards.
            for _ in range(MOST_REPAIRS if repair else 0):
                mended = mend(context, outcome.findings)
                if not mended:
                    break
                done += mended
                outcome = checks.examine(context, patience_s=patience)
    except (AdminError, SQLAlchemyError, OSError) as error:
        now.fail(MoorageError(f"It could not be checked. {error}", code="admin.unchecked"))
        raise typer.Exit(BLIND) from None
    found = {"sound": outcome.sound, "findings": outcome.findings, "repaired": done}
    now.result(found, lambda: now.say("\n".join([*done, *checks.in_words(outcome)])))
    raise typer.Exit(SOUND if outcome.sound else FOUND)
