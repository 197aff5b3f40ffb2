"""`enginery validate`: run registered engines on this machine's GPU."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands, "validate", _run, "run engines on their GPU: outputs, mAP and latency"
    )
    parser.add_argument(
        "engine",
        nargs="*",
        help="model/target/precision, or a part of it (default: all of runtime tensorrt)",
    )


def _run(args: argparse.Namespace) -> int:
    from enginery.actions.validate import validate_engine
    from enginery.errors import EngineryError, ExcludedTargetError
    from enginery.project.params import load_spec
    from enginery.registry.store import engines, find
    from enginery.report.display import print_table
    from enginery.report.tables import latency_row

    spec = load_spec()
    wanted = [find(name) for name in args.engine] or [
        engine for engine in engines() if engine.manifest.runtime == "tensorrt"
    ]
    if not wanted:
        raise EngineryError(
            "no engine of runtime tensorrt is registered",
            "Name the engines to validate; `enginery list` shows them",
        )
    rows, bad = [], 0
    for engine in wanted:
        try:
            report = validate_engine(spec, engine)
        except EngineryError as error:
            if (
                isinstance(error, ExcludedTargetError) and not args.engine
            ):  # nobody asked for it by its name
                print(f"elsewhere: {error.why}", file=sys.stderr)
            else:
                print(f"error: {error}", file=sys.stderr)
                bad += 1
            continue
        rows.append(latency_row(engine, report))
        for failure in report.failures:
            print(f"{engine.name}: {failure}", file=sys.stderr)
            bad += 1
    if rows:
        print_table("Engines on this GPU", rows)
    elif not bad:
        raise EngineryError(
            "every engine is for another machine", "Run this on the machine with their GPU"
        )
    return 1 if bad else 0
