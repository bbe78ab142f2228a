"""One invocation of the command: where the service is, how to print, and what the person asked for."""

import functools
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, ParamSpec, TextIO, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moorage import calls
from moorage.call import Call
from moorage.client import Client
from moorage.environment import Surroundings, surroundings
from moorage.errors import BadRequest, InvalidInput, LimitRefused, MoorageError
from moorage.wire import codec

T = TypeVar("T")
P = ParamSpec("P")


class Session:
    """Prints results to `out` (one JSON document with `--json`) and everything else to `err`."""

    def __init__(
        self,
        *,
        client: Client | None = None,
        around: Surroundings | None = None,
        out: TextIO | None = None,
        err: TextIO | None = None,
        poll_s: float = 1.0,
    ) -> None:
        self.around = around or surroundings()
        self.url: str | None = None
        self.token: str | None = None
        self.json = False
        self._client = client
        self._poll_s = poll_s
        self.out = _console(out or sys.stdout)
        self.err = _console(err or sys.stderr)

    def send(self, call: Call[T]) -> T:
        if self._client is None:
            self._client = Client.here(self.url, self.token, self.around)
        return self._client.send(call)

    def service_url(self) -> str:
        """The service's address, without a slash at the end."""
        if self._client is None:
            self._client = Client.here(self.url, self.token, self.around)
        return self._client.url

    def project(self, given: str | None) -> str | None:
        """The project that was named, else this notebook's."""
        return given or self.around.project

    def needed_project(self, given: str | None) -> str:
        found = self.project(given)
        if found is None:
            raise InvalidInput(
                "Say which project: this is no notebook's terminal. `moorage project list` names them.", field="project"
            )
        return found

    # --- output -----------------------------------------------------------------------------------------------------

    def result(self, value: object, human: Callable[[], None]) -> None:
        """Print the value as JSON, or let `human` print it."""
        if self.json:
            self.out.file.write(json.dumps(codec.dump(value), indent=2, ensure_ascii=False) + "\n")
        else:
            human()

    def sheet(self, asked: Call[Any]) -> None:
        """Print the answer as CSV, as it came. Raises InvalidInput with `--json`."""
        if self.json:
            raise InvalidInput("Give --csv or --json, not both.", field="csv")
        self.out.file.write(self.send(calls.as_csv(asked)))

    def done(self, sentence: str, **facts: object) -> None:
        """Say what was done; with --json as {"done": sentence, ...facts}."""
        self.result({"done": sentence, **facts}, lambda: self.say(sentence))

    def say(self, text: str) -> None:
        """A line of the result for people. Never read as markup: names and logs may hold brackets."""
        self.out.print(text, markup=False)

    def hint(self, text: str) -> None:
        """A line beside the result, such as progress."""
        if not self.json:
            self.err.print(text, markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
        found = [["-" if cell is None else str(cell) for cell in row] for row in rows]
        if not found:
            return self.say(empty)
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in found:
            table.add_row(*[Text(cell) for cell in row])
        self.out.print(table, soft_wrap=False)
        return None

    def facts(self, rows: Iterable[tuple[str, object]]) -> None:
        """Names and values, one a line; values that are None or empty are left out."""
        shown = [(name, str(value)) for name, value in rows if value not in (None, "", [], {})]
        width = max((len(name) for name, _value in shown), default=0)
        for name, value in shown:
            self.say(f"{name.ljust(width)}  {value}")

    def fail(self, error: MoorageError) -> int:
        """Print an error; the exit code that it stands for."""
        if self.json:
            body: dict[str, Any] = {"code": error.error_code, "message": error.message}
            if error.field is not None:
                body["field"] = error.field
            if isinstance(error, LimitRefused):
                body["refusal"] = codec.dump(error.refusal)
            self.err.file.write(json.dumps({"error": body}, indent=2, ensure_ascii=False) + "\n")
        else:
            self.err.print(error.message, markup=False, style="red" if self.err.is_terminal else None)
        return 2 if isinstance(error, InvalidInput | BadRequest) else 1

    def pause(self) -> None:
        """Between two looks at something that is followed."""
        time.sleep(self._poll_s)


def _console(file: TextIO) -> Console:
    """Lines are never cut; a table fits the terminal, and is as wide as it likes in a pipe or a file."""
    width = None if file.isatty() else 1000
    return Console(file=file, width=width, highlight=False, soft_wrap=True)


_session: ContextVar[Session] = ContextVar("moorage-session")


def session() -> Session:
    """The session of the command that runs now."""
    return _session.get()


def enter(new: Session) -> None:
    _session.set(new)


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def command(app: typer.Typer, name: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command, with `--json` beside its own options."""

    def register(work: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(work)
        def run(*args: Any, as_json: bool = False, **options: Any) -> None:
            session().json = session().json or as_json
            work(*args, **options)

        found = inspect.signature(work, eval_str=True)
        extra = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
        run.__signature__ = found.replace(parameters=[*found.parameters.values(), extra])  # type: ignore[attr-defined]
        app.command(name)(run)
        return work

    return register


def group(app: typer.Typer, name: str, help_text: str) -> typer.Typer:
    """A sub-command that holds commands."""
    made = typer.Typer(help=help_text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(made, name=name)
    return made
