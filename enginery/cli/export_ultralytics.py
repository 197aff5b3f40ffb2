"""`enginery export-ultralytics`: an engine as `YOLO("x.engine")` loads it, with Ultralytics'
metadata before the plan.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, EngineArgument, new_app

app = new_app()


@app.command(cls=Command)
def export_ultralytics(
    engine: EngineArgument,
    out: Annotated[
        Path | None, typer.Option(help="The file (default: MODEL-TARGET-PRECISION.engine).")
    ] = None,
) -> int:
    """Write an engine as YOLO("x.engine") loads it."""
    from enginery.actions.export_ultralytics import export_ultralytics as write
    from enginery.registry.store import find

    exported = find(engine)
    path = out or Path(f"{exported.name.replace('/', '-')}.engine")
    write(exported, path)
    manifest = exported.manifest
    print(f"{path}: {exported.name} for {manifest.runtime} {manifest.runtime_version}")
    return 0
