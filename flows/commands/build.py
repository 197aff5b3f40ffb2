"""`enginery build`: the flow, with the terminal's display, its closing table and an exit code."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from flows.commands import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(commands, "build", _run, "build, validate and register what is not up to date")
    for kind in ("model", "target", "precision"):
        parser.add_argument(f"--{kind}", help=f"only engines of this {kind}")


def _run(args: argparse.Namespace) -> int:
    _quieten()
    from enginery.spec import load_spec

    load_spec()  # a mistake is told before a server is started
    return _show(args.model, args.target, args.precision)


def _quieten() -> None:
    """Keep third-party noise off the terminal; Prefect's UI still gets every line."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    logging.getLogger("dvc").setLevel(logging.ERROR)


def _show(model: str | None, target: str | None, precision: str | None) -> int:
    """Run the flow here and show how it goes; 1 if any step failed."""
    from rich.console import Console

    from enginery.errors import EngineryError
    from enginery.registry import engines
    from enginery.report import display as terminal
    from enginery.report.display import Display, table
    from enginery.report.tables import engine_rows
    from flows.engines import build_engines
    from flows.server import check_server

    check_server()
    console = Console(stderr=True)
    terminal.current = Display(console)
    state = build_engines(model, target, precision, return_state=True)
    if state.is_crashed():
        raise KeyboardInterrupt
    if state.is_failed() and state.message and "Flow run encountered an exception" in state.message:
        error = state.result(raise_on_failure=False)
        if isinstance(error, EngineryError):
            raise error
    rows = engine_rows(engines(), {})
    if rows:
        Console().print(table("Registered engines", rows))
    console.print(state.message, markup=False, highlight=False)
    return 1 if state.is_failed() else 0
