"""`enginery build`: the flow, with the terminal's display, its closing table and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from enginery.cli import add_command, exit_code

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from enginery.orchestration.server import Connection
    from enginery.report.display import Display


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands, "build", _run, "build, validate and register what is not up to date"
    )
    for kind in ("model", "target", "precision"):
        parser.add_argument(f"--{kind}", help=f"only engines of this {kind}")


def _run(args: argparse.Namespace) -> int:
    _quieten()
    from enginery.orchestration.server import prefect_server
    from enginery.project.load import load_spec

    load_spec()  # a mistake is told before a server is started
    with prefect_server() as connection:
        code = exit_code(lambda: _build(args, connection))
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


def _build(args: argparse.Namespace, connection: Connection) -> int:
    """Run the flow here and show how it goes; 1 if any step failed."""
    from rich.console import Console

    from enginery.cli.registered import known_matrix
    from enginery.registry.store import entries
    from enginery.report import display as terminal
    from enginery.report.display import Display, print_table
    from enginery.report.tables import engine_notes, engine_rows, listed

    display = terminal.current = Display(Console(stderr=True))
    _follow(args, connection, display)
    engines = listed(entries(), known_matrix())
    if engines:
        print_table("Registered engines", engine_rows(engines))
    for note in engine_notes(engines):
        print(note)
    display.conclude(_again(args))
    return 1 if display.failures() else 0


def _follow(args: argparse.Namespace, connection: Connection, display: Display) -> None:
    """Run the flow until its last step has ended, with or without its server.

    Raises:
        EngineryError: there was no step to run, or no server to begin with.
    """
    import httpx
    from flows.engines import build_engines

    from enginery.errors import EngineryError, ServerLostError
    from enginery.orchestration.server import requests_through

    try:
        with requests_through(connection):
            cause = _cause(
                build_engines(args.model, args.target, args.precision, return_state=True), display
            )
    except (ServerLostError, httpx.HTTPError) as error:
        cause = _first(error)
    if display.summary and isinstance(cause, (ServerLostError, httpx.HTTPError)):
        what = (
            cause.what
            if isinstance(cause, EngineryError)
            else f"Prefect's server failed: {_line(cause)}"
        )
        display.warn(f"{what}: its UI will not show how this run ended. No step needs it")
    elif isinstance(cause, (EngineryError, KeyboardInterrupt)):
        raise cause
    elif cause:
        raise EngineryError(f"the run failed: {type(cause).__name__}: {_line(cause)}")


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


def _again(args: argparse.Namespace) -> str:
    """The command that goes on where this one ended."""
    kinds = ("model", "target", "precision")
    options = [f" --{kind} {getattr(args, kind)}" for kind in kinds if getattr(args, kind)]
    return f"enginery build{''.join(options)}"
