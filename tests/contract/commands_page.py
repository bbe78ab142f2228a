"""docs/commands.md, from the commands themselves. `python -m tests.contract.commands_page` writes it anew."""

import re
import sys
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
MAKEFILE = Path(__file__).parents[2] / "Makefile"
NOT_TOLD = ("as_json", "help", "install_completion", "show_completion")  # what every command has
HEAD = """# Commands

Every command with its arguments and options, as `--help` tells them. Those of `moorage` take `--json` as well, for one JSON document on
standard output; what `moorage admin` does is only there where the service is installed (`control/bin/moorage` in the state folder).
[user.md](user.md#in-a-terminal) and [admin.md](admin.md) say what they are for.
"""


def page() -> str:
    """A test compares it with what is there, so that no command or option goes without a word."""
    from moorage.cli import app
    from moorage_hub.main import app as hub

    parts = [HEAD, "## `make`\n", *_targets()]
    for name, there in (("moorage", app), ("moorage-hub", hub)):
        parts += [f"\n## `{name}`\n", *_command(name, get_command(there))]
    return "\n".join(parts) + "\n"


def _targets() -> Iterator[str]:
    yield "| target | does |\n|---|---|"
    for name, words in re.findall(r"^([\w-]+):\s+## (.*)$", MAKEFILE.read_text(), re.MULTILINE):
        yield f"| `make {name}` | {words} |"


def _command(name: str, found: Any) -> Iterator[str]:
    """Of click's objects, as typer brings them. Groups first say what they are about."""
    below = getattr(found, "commands", None)
    options = [each for each in found.params if not each.hidden and each.name not in NOT_TOLD]
    usage = [name, *(_argument(each) for each in options if each.param_type_name == "argument")]
    if below is None or " " in name:
        yield f"{'####' if below is None else '###'} `{' '.join(usage)}`\n"
    yield f"{_words(found.help, f'{name} has no help')}\n"
    rows = [row for row in (_option(name, each) for each in options) if row]
    if rows:
        yield "\n".join(rows) + "\n"
    inner = [(hasattr(each, "commands"), word, each) for word, each in (below or {}).items()]
    for _, word, each in sorted(inner, key=itemgetter(0, 1)):  # groups come last
        yield from _command(f"{name} {word}", each)


def _argument(found: Any) -> str:
    shown = str(found.metavar or found.name.upper()).strip("[]")
    shown = shown if found.nargs == 1 else f"{shown}..."
    return shown if found.required else f"[{shown}]"


def _option(command: str, found: Any) -> str | None:
    """None for an argument of which its name says all."""
    if found.param_type_name == "argument":
        return f"- `{_argument(found)}`: {_words(found.help, '')}" if found.help else None
    names = ", ".join(f"`{name}`" for name in (*found.opts, *found.secondary_opts))
    default = (
        found.default if isinstance(found.default, str | int | float) and not isinstance(found.default, bool) else None
    )
    said = _words(found.help, f"{command} {found.opts[0]} has no help")
    return f"- {names}: {said}{'' if default is None else f' Else `{default}`.'}"


def _words(text: str | None, else_fail: str) -> str:
    assert text, else_fail
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    PAGE.write_text(page())
    typer.echo(f"{PAGE} is written.", file=sys.stderr)
