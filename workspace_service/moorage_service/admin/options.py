"""What several commands of `moorage admin` take."""

from pathlib import Path
from typing import Annotated

import typer

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="MOORAGE_HOME",
        help="The state folder; that of this installation unless given.",
        show_default=False,
    ),
]
