"""The flow as a command: with the terminal's display, its closing table and an exit code."""

from __future__ import annotations

from rich.console import Console

from enginery.errors import EngineryError
from enginery.registry import engines
from enginery.report import display as terminal
from enginery.report.display import Display, table
from enginery.report.tables import engine_rows
from flows.engines import build_engines


def run_flow(model: str | None, target: str | None, precision: str | None) -> int:
    """Run the flow here and show how it goes; 1 if any step failed."""
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
