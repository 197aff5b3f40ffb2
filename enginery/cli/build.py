"""`enginery build`: the flow, with the terminal's display, its closing table and an exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enginery.cli import Command, exit_code, new_app
from enginery.cli.completion import complete_model, complete_precision, complete_target
from enginery.system.extras import require

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from enginery.orchestration.server import Connection
    from enginery.report.display import Display

app = new_app()


def _only(kind: str, complete: Callable[[str], list[str]]) -> Any:
    return typer.Option(
        f"--{kind}",
        metavar="NAME",
        help=f"Only engines of this {kind}; may be given several times.",
        autocompletion=complete,
    )


@dataclass(frozen=True)
class Selection:
    """The engines to build, empty for all, and how many steps may run at once."""

    models: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    jobs: int | None = None

    @property
    def command(self) -> str:
        """The command line that asks for this."""
        named = {"model": self.models, "target": self.targets, "precision": self.precisions}
        words = [f"--{kind} {name}" for kind, names in named.items() for name in names]
        words += [f"--jobs {self.jobs}"] if self.jobs else []
        return " ".join(["enginery build", *words])


@app.command(cls=Command)
def build(
    models: Annotated[list[str] | None, _only("model", complete_model)] = None,
    targets: Annotated[list[str] | None, _only("target", complete_target)] = None,
    precisions: Annotated[list[str] | None, _only("precision", complete_precision)] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Run at most N steps at once; by default as many as processors and memory allow.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what failed.")] = False,
) -> int:
    """Build, validate and register what is not up to date."""
    selection = Selection(tuple(models or ()), tuple(targets or ()), tuple(precisions or ()), jobs)
    require("build")
    _quieten()
    from enginery.orchestration.server import prefect_server
    from enginery.project.load import load_spec
    from enginery.project.loading import load_flow

    load_spec()  # a mistake is told before a server is started
    build_engines = load_flow()
    with prefect_server() as connection:
        code = exit_code(lambda: _build(build_engines, selection, connection, quiet))
        connection.send_the_rest()
    if connection.lost:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # Prefect's threads would go on trying for minutes
    return code


def _quieten() -> None:
    """Keep third-party noise off the terminal; Prefect's UI still gets every line."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")
    logging.getLogger("dvc").setLevel(logging.ERROR)
    logging.raiseExceptions = False  # Prefect's handler prints what it could not send


def _build(flow: Any, selection: Selection, connection: Connection, quiet: bool) -> int:
    """Run the flow here and show how it goes; 1 if any step failed."""
    from rich.console import Console

    from enginery.report import display as terminal
    from enginery.report.display import Display

    display = terminal.current = Display(Console(stderr=True), quiet=quiet)
    _follow(flow, selection, connection, display)
    if not quiet:
        _show_engines(display)
    display.quiet = quiet and not display.failures()
    display.conclude(selection.command)
    return 1 if display.failures() else 0


def _show_engines(display: Display) -> None:
    """The engines, and why some are not simply candidates or validated."""
    from enginery.registry.store import entries
    from enginery.report.console import print_table
    from enginery.report.listing import known_engines
    from enginery.report.tables import engine_notes, engine_rows, listed

    engines = display.engines
    if engines is None:  # the run ended before they were read
        engines = listed(entries(), known_engines())
    if engines:
        print_table("Registered engines", engine_rows(engines))
    for note in engine_notes(engines):
        print(note)


def _follow(flow: Any, selection: Selection, connection: Connection, display: Display) -> None:
    """Run the flow until its last step has ended, with or without its server.

    Raises:
        EngineryError: there was no step to run, or no server to begin with.
    """
    import httpx

    from enginery.errors import EngineryError, ServerLostError
    from enginery.orchestration.server import requests_through

    try:
        with requests_through(connection):
            cause = _cause(_run(flow, selection), display)
    except (ServerLostError, httpx.HTTPError) as error:
        cause = _first(error)
    if display.summary and isinstance(cause, (ServerLostError, httpx.HTTPError)):
        failed = f"Prefect's server failed: {_line(cause)}"
        what = cause.what if isinstance(cause, EngineryError) else failed
        display.warn(f"{what}: its UI will not show how this run ended. No step needs it")
    elif isinstance(cause, (EngineryError, KeyboardInterrupt)):
        raise cause
    elif isinstance(cause, OSError) and cause.filename:
        raise cause  # every command says these alike
    elif cause:
        raise EngineryError(f"the run failed: {type(cause).__name__}: {_line(cause)}")


def _run(flow: Any, selection: Selection) -> State[Any]:
    state: State[Any] = flow(
        models=list(selection.models),
        targets=list(selection.targets),
        precisions=list(selection.precisions),
        jobs=selection.jobs,
        return_state=True,
    )
    return state


def _cause(state: State[Any], display: Display) -> BaseException | None:
    """What kept the flow from its end; steps that failed did not."""
    if state.is_crashed():
        return KeyboardInterrupt()
    if state.is_failed() and not display.failures():
        error = state.result(raise_on_failure=False)
        return error if isinstance(error, BaseException) else RuntimeError(state.message)
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _first(error: BaseException) -> BaseException:
    """What ended the flow before its server was missed: an error of ours, or Ctrl-C."""
    from enginery.errors import EngineryError, ServerLostError

    cause: BaseException | None = error
    while cause is not None:
        ours = isinstance(cause, EngineryError) and not isinstance(cause, ServerLostError)
        if ours or isinstance(cause, KeyboardInterrupt):
            return cause
        cause = cause.__context__
    return error
