"""`enginery validate`: run registered engines on this machine's GPU."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, new_app
from enginery.errors import EngineryError, ExcludedTargetError

if TYPE_CHECKING:
    from enginery.registry.store import Engine

app = new_app()


@app.command(cls=Command)
def validate(
    engines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ENGINE...]",
            help="model/target/precision, or a part of it; by default all of runtime tensorrt.",
        ),
    ] = None,
) -> int:
    """Run engines on their GPU: outputs, mAP and latency."""
    from enginery.actions.validate import validate_engine
    from enginery.project.load import load_spec
    from enginery.report.console import print_table
    from enginery.report.tables import latency_row

    spec = load_spec()
    rows, faults = [], 0
    for engine in _requested(engines or []):
        try:
            report = validate_engine(spec, engine)
        except EngineryError as error:
            faults += _say(error, by_name=bool(engines))
            continue
        rows.append(latency_row(engine, report))
        for failure in report.failures:
            print(f"{engine.name}: {failure}", file=sys.stderr)
        faults += len(report.failures)
    if rows:
        print_table("Engines on this GPU", rows)
    elif not faults:
        raise EngineryError(
            "every engine is for another machine", "Run this on the machine with their GPU"
        )
    return 1 if faults else 0


def _requested(names: list[str]) -> list[Engine]:
    from enginery import runtimes
    from enginery.registry.store import engines, find

    requested = [find(name) for name in names] or [
        engine for engine in engines() if runtimes.find(engine.manifest.runtime).on_own_gpu
    ]
    if not requested:
        raise EngineryError(
            "no engine of runtime tensorrt is registered",
            "Name the engines to validate; `enginery list` shows them",
        )
    return requested


def _say(error: EngineryError, by_name: bool) -> int:
    """Say why an engine was not run; 1 if that is a fault: nobody asked for it by its name, and it
    is for another machine, is none.
    """
    if isinstance(error, ExcludedTargetError) and not by_name:
        print(f"elsewhere: {error.why}", file=sys.stderr)
        return 0
    print(f"error: {error}", file=sys.stderr)
    return 1
