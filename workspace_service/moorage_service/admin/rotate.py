"""`moorage admin rotate ...`: new keys and tokens for old ones, while everything runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli.session import command, group, session
from moorage.errors import MoorageError
from moorage_service.admin.options import State

if TYPE_CHECKING:  # what a command needs is imported by the command itself: `moorage` starts quickly
    from moorage_service.context import Context

Within = Annotated[
    float, typer.Option("--within", min=0, help="Seconds until the old one is dead; so long both are good.")
]


def register(admin: typer.Typer) -> None:
    rotate = group(admin, "rotate", "New keys and tokens for old ones, while everything runs.")
    command(rotate, "vault-key")(vault_key)
    command(rotate, "hub-to-service")(hub_to_service)
    command(rotate, "service-to-hub")(service_to_hub)
    command(rotate, "token")(token)


def vault_key(within: Within = 10.0, state: State = None) -> None:
    """A new key of the vault; every stored secret is sealed anew with it."""
    from moorage_service.recovery import rotation

    _carry_out(state, lambda context: rotation.vault_key(context, within))


def hub_to_service(within: Within = 10.0, state: State = None) -> None:
    """A new token by which the service knows the hub."""
    from moorage_service.recovery import rotation

    _carry_out(state, lambda context: rotation.hub_to_service(context, within))


def service_to_hub(within: Within = 60.0, state: State = None) -> None:
    """A new token by which the hub knows the service; the hub is started anew, and notebooks go on meanwhile."""
    from moorage_service.recovery import rotation

    _carry_out(state, lambda context: rotation.service_to_hub(context, within))


def token(
    workload: Annotated[str, typer.Argument(help="Id of a cluster that runs.")],
    within: Within = 30.0,
    state: State = None,
) -> None:
    """A new token for a cluster that runs."""
    from moorage_service.recovery import rotation

    _carry_out(state, lambda context: rotation.workload_token(context, within, workload_id=workload))


def _carry_out(state: State, work: "Callable[[Context], str]") -> None:
    from sqlalchemy.exc import SQLAlchemyError

    from moorage_service.admin.opening import AdminError, opened, state_folder
    from moorage_service.recovery.rotation import RotationError

    now = session()
    try:
        with opened(state_folder(state)) as context:
            said = work(context)
    except (AdminError, RotationError, SQLAlchemyError, OSError) as error:
        raise MoorageError(str(error), code="admin.rotate") from error
    now.done(said)
