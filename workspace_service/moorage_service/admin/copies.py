"""`moorage admin backup` and `moorage admin restore`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moorage.cli.session import session
from moorage.errors import MoorageError
from moorage_service.admin.options import State

if TYPE_CHECKING:  # what a command needs is imported by the command itself: `moorage` starts quickly
    from moorage_service.recovery.contents import Manifest


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, or a folder to write one in.")],
    outputs: Annotated[bool, typer.Option(help="The outputs of runs.")] = True,
    homes: Annotated[bool, typer.Option(help="The homes of users.")] = False,
    environments: Annotated[
        bool, typer.Option(help="The projects' environments, which can be built again from the projects.")
    ] = False,
    state: State = None,
) -> None:
    """Copy the installation into one file, while it runs or not.

    The file holds the key that opens every stored secret, and is for its owner alone (0600).
    """
    from moorage_service.admin.opening import AdminError, settings_of, state_folder
    from moorage_service.recovery import backup as copies
    from moorage_service.recovery.contents import FOLDERS, CopyError, in_words, size_in_words

    now = session()
    try:
        parts = copies.parts_of(outputs=outputs, homes=homes, environments=environments)
        path, manifest = copies.make(settings_of(state_folder(state)), target, parts)
    except (AdminError, CopyError) as error:
        raise MoorageError(str(error), code="admin.backup") from error
    size = path.stat().st_size
    left_out = ", ".join(part for part in FOLDERS if part not in parts) or "nothing"
    said = (
        f"Wrote {path}, {size_in_words(size)}: {in_words(manifest)}. Left out: {left_out}.\n"
        "It holds the key that opens every stored secret. Whoever can read it can read them all: keep it where nobody else can."
    )
    if manifest.left_out:
        said += f"\n{len(manifest.left_out)} could not be copied: {'; '.join(manifest.left_out[:3])}."
    now.result({"path": str(path), "size": size, **_facts(manifest)}, lambda: now.say(said))


def restore(
    copy: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `moorage admin backup` wrote.")],
    state: State = None,
) -> None:
    """Put a copy back while Moorage is stopped. What is there is moved aside, never deleted."""
    from moorage_service.admin.opening import AdminError, state_folder
    from moorage_service.recovery import restore as copies
    from moorage_service.recovery.contents import CopyError, in_words

    now = session()
    try:
        folder = state if state is not None else state_folder(None)
        outcome = copies.put_back(folder.absolute(), copy)
    except (AdminError, CopyError) as error:
        raise MoorageError(str(error), code="admin.restore") from error
    aside = "There was nothing to move aside." if outcome.aside is None else f"What was there lies in {outcome.aside}."
    lines = [
        f"Put back the copy made at {outcome.manifest.made_at}: {in_words(outcome.manifest)}. {aside}",
        *outcome.left,
        "Start Moorage with `make up`. What runs and is newer than the copy is then adopted, ended or left, as `unknown_workloads` in "
        "settings.yaml says; what the copy knows and is gone is marked so. Then look at `moorage admin check` and at the audit.",
    ]
    aside_path = None if outcome.aside is None else str(outcome.aside)
    now.result({"aside": aside_path, **_facts(outcome.manifest)}, lambda: now.say("\n".join(lines)))


def _facts(manifest: "Manifest") -> dict[str, object]:
    return {
        "made_at": manifest.made_at, "version": manifest.version, "schema": manifest.schema, "database": manifest.database,
        "parts": list(manifest.parts), "files": len(manifest.members),
        "left_out": manifest.left_out,
    }  # fmt: skip
