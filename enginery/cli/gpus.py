"""`enginery gpus`: what this machine has to build and run engines on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enginery.cli import Command, new_app

if TYPE_CHECKING:
    from enginery.gpu.inventory import Gpu, GpuState

app = new_app()


@app.command(cls=Command)
def gpus(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """This machine's GPUs: memory, driver, clocks, what is on them."""
    from enginery.gpu import inventory
    from enginery.report.console import print_table

    states = [(gpu, inventory.state(gpu)) for gpu in inventory.gpus()]
    if as_json:
        print(json.dumps([{**asdict(gpu), **asdict(now)} for gpu, now in states], indent=2))
    elif not states:
        print("No NVIDIA GPU here: TensorRT-RTX builds without one, runtime tensorrt needs one.")
    else:
        print_table("GPUs", [_row(gpu, now) for gpu, now in states])
    return 0


def _row(gpu: Gpu, now: GpuState) -> dict[str, Any]:
    def known(value: float | None) -> float | str:
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
