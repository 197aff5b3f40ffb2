"""A target of another machine's GPU beside one that every machine builds."""

from __future__ import annotations

from typing import Any

from enginery.gpu.inventory import Gpu
from enginery.toolchain.requests import ToolchainInfo

MODEL = "yolov8n-shapes"
PRECISIONS = ("fp16", "fp32")
GONE = "/nowhere/bin/python"
WHY = f"toolchain interpreter {GONE} cannot be started: No such file or directory"
LEFT = {
    f"{step} {MODEL} {precision} for server"
    for step in ("build", "register")
    for precision in PRECISIONS
}
CARD = {"gpu": "Card", "compute_capability": "9.0"}
LISTED = Gpu(0, "GPU-1", "Card", "9.0", 81920, "580.1", "13.0", None, None)


def fleet(params: dict[str, Any], python: str = GONE) -> None:
    """Another machine's GPU beside a target that every machine builds."""
    params["matrix"].update(targets=["rtx-ada", "server"], precisions=[*PRECISIONS])
    params["int8"] = {}
    params["toolchains"] = {"trt10": {"python": python}}
    params["targets"]["server"] = {"runtime": "tensorrt", "toolchain": "trt10"}


def info(runtime: str = "tensorrt", *shown: dict[str, str], blind: bool = False) -> ToolchainInfo:
    return ToolchainInfo(
        runtime,
        "10.16.1",
        "3.11",
        "linux_x86_64",
        ("weak typing",),
        ("9.0",),
        shown,
        "" if shown else "none",
        blind,
    )
