"""`enginery export-ultralytics`: an engine as `YOLO("x.engine")` loads it, with Ultralytics'
metadata before the plan.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands, "export-ultralytics", _run, 'write an engine as YOLO("x.engine") loads it'
    )
    parser.add_argument("engine", help="model/target/precision, or a part of it")
    parser.add_argument(
        "--out", type=Path, help="the file (default: MODEL-TARGET-PRECISION.engine)"
    )


def _run(args: argparse.Namespace) -> int:
    from enginery.actions.export_ultralytics import export_ultralytics
    from enginery.registry.store import find

    engine = find(args.engine)
    out = args.out or Path(f"{engine.name.replace('/', '-')}.engine")
    export_ultralytics(engine, out)
    print(f"{out}: {engine.name} for {engine.manifest.runtime} {engine.manifest.runtime_version}")
    return 0
