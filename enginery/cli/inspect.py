"""`enginery inspect`: what an engine is made of and where its time goes, on its own GPU."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands,
        "inspect",
        _run,
        "an engine's layers: precision, kernel, share of time, and its memory",
    )
    parser.add_argument("engine", help="model/target/precision, or a part of it")
    parser.add_argument("--top", type=int, metavar="N", help="only the layers that take longest")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write all that TensorRT's inspector tells, and the times",
    )


def _run(args: argparse.Namespace) -> int:
    from enginery.actions.inspect import inspect_engine
    from enginery.project.load import load_spec
    from enginery.registry.store import find
    from enginery.report.display import print_table
    from enginery.report.layers import as_json, layer_facts, rows, summary
    from enginery.system.files import replacing

    engine = find(args.engine)
    found = inspect_engine(load_spec(), engine)
    layers = layer_facts(found)
    if args.json:
        with replacing(args.json) as partial:
            partial.write_text(
                json.dumps({**found, "summary": as_json(layers)}, indent=1), encoding="utf-8"
            )
    print_table(f"Layers of {engine.name}", rows(layers, args.top and max(args.top, 0)))
    print_table("By precision", summary(layers))
    memory, skipped = found["device_memory"] / 1e6, found["skipped_tactics"]
    print(
        f"{memory:.1f} MB of GPU memory for activations; {skipped} tactics were skipped for want of memory when it was built"
    )
    return 0
