"""`enginery inspect`: what an engine is made of and where its time goes, on its own GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, EngineArgument, new_app

app = new_app()


@app.command(cls=Command)
def inspect(
    engine: EngineArgument,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Show only the N layers that take longest.")
    ] = None,
    as_json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write all that TensorRT's inspector tells, and the times.",
        ),
    ] = None,
) -> int:
    """An engine's layers: precision, kernel, share of time, and its memory."""
    from enginery.actions.inspect import inspect_engine
    from enginery.project.load import load_spec
    from enginery.registry.store import find
    from enginery.report import layers as report
    from enginery.report.display import print_table
    from enginery.system.files import replacing

    registered = find(engine)
    found = inspect_engine(load_spec(), registered)
    layers = report.layer_facts(found)
    if as_json:
        with replacing(as_json) as partial:
            partial.write_text(
                json.dumps({**found, "summary": report.as_json(layers)}, indent=1), encoding="utf-8"
            )
    print_table(f"Layers of {registered.name}", report.rows(layers, top and max(top, 0)))
    print_table("By precision", report.summary(layers))
    memory, skipped = found["device_memory"] / 1e6, found["skipped_tactics"]
    print(
        f"{memory:.1f} MB of GPU memory for activations; "
        f"{skipped} tactics were skipped for want of memory when it was built"
    )
    return 0
