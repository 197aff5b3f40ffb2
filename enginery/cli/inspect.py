"""`enginery inspect`: what an engine is made of and where its time goes, on its own GPU."""

from __future__ import annotations

import json
from dataclasses import asdict
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
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write layers.json and profile.json, as trtexec exports them, and summary.json.",
        ),
    ] = None,
) -> int:
    """An engine's layers: precision, kernel, share of time, its memory, and hints."""
    from enginery.actions.inspect import inspect_engine
    from enginery.project.load import load_spec
    from enginery.registry.store import find
    from enginery.report.console import print_table
    from enginery.report.layer_files import write_layer_files
    from enginery.report.layer_hints import summarize
    from enginery.report.layers import profile_layers, rows, summary
    from enginery.system.files import atomic_write

    registered = find(engine)
    inspection = inspect_engine(load_spec(), registered)
    layers, skipped = profile_layers(inspection), registered.manifest.steps.build.skipped_tactics
    if as_json:
        whole = {
            **asdict(inspection),
            "skipped_tactics": skipped,
            "summary": [asdict(layer) for layer in layers],
        }
        with atomic_write(as_json) as partial:
            partial.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    engine_summary = summarize(inspection, registered.precision)
    if out:
        write_layer_files(inspection, engine_summary, out)
    print_table(f"Layers of {registered.name}", rows(layers, top and max(top, 0)))
    print_table("By precision", summary(layers))
    print_table("By kind", engine_summary.rows())
    memory = inspection.device_memory / 1e6
    print(
        f"{memory:.1f} MB of GPU memory for activations; "
        f"{skipped} tactics were skipped for want of memory when it was built"
    )
    for hint in engine_summary.hints:
        print(f"Hint: {hint}")
    if out:
        print(f"Written: {out.as_posix()}")
    return 0
