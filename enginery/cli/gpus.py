"""`enginery gpus`: what this machine has to build and run engines on."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(
        commands, "gpus", _run, "this machine's GPUs: memory, driver, clocks, what is on them"
    )
    parser.add_argument("--json", action="store_true", help="an array of objects")


def _run(args: argparse.Namespace) -> int:
    from enginery.gpu.inventory import gpus, state
    from enginery.report.display import print_table

    found = [(gpu, state(gpu)) for gpu in gpus()]
    if args.json:
        print(json.dumps([{**asdict(gpu), **asdict(now)} for gpu, now in found], indent=2))
    elif not found:
        print("No NVIDIA GPU here: TensorRT-RTX builds without one, runtime tensorrt needs one.")
    else:
        print_table("GPUs", [_row(gpu, now) for gpu, now in found])
    return 0


def _row(gpu: Any, now: Any) -> dict[str, Any]:
    def known(value: Any) -> Any:
        return "-" if value is None else value

    return {
        "": gpu.index,
        "GPU": gpu.name,
        "UUID": gpu.uuid,
        "capability": gpu.compute_capability,
        "free": f"{known(now.free_mib)} of {known(gpu.memory_mib)} MiB",
        "driver": f"{gpu.driver} (CUDA {gpu.cuda})",
        "SM clock": f"{known(now.sm_clock)} of {known(gpu.max_sm_clock)} MHz",
        "processes": len(now.processes),
    }
