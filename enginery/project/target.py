"""A target and a toolchain of params.yaml."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from enginery.project.values import Capability, Frozen, Name, Runtime, Seconds
from enginery.vision.nms import Nms

BUILD_OPTIONS = (
    "strongly_typed",
    "tf32",
    "sparsity",
    "version_compatible",
    "hardware_compatible",
    "refittable",
    "dla_core",
)
OLDEST_COMPATIBLE = 8.0  # hardware-compatible plans run from this compute capability (Ampere) on
# The own interpreter as a toolchain: its name, its path. No recipe holds the path.
OWN_TOOLCHAIN, OWN_INTERPRETER = "this", Path(sys.executable)


def _gpu(value: Any) -> Any:
    if (type(value) is int and value >= 0) or (
        isinstance(value, str) and re.fullmatch(r"GPU-[0-9a-f-]+", value)
    ):
        return value
    raise ValueError("an index, as nvidia-smi counts, or a UUID (GPU-...) is expected")


class Target(Frozen):
    """What an engine is for, and how it is built. `version` is as much of TensorRT's version as
    matters; `gpu` is an index or UUID.

    `compute_capability` is what TensorRT-RTX builds for; `tensorrt` builds for its GPU, which must
    then have it.

    `input: uint8` takes pixels, and `output: detections` gives boxes: what is before and after the
    network then runs on the GPU.

    The options from `output` on are for runtime `tensorrt`.
    """

    runtime: Runtime
    version: Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")] | None = None
    compute_capability: Capability | None = None
    toolchain: Name | None = None
    workspace_mib: Annotated[int, Field(ge=1, le=1 << 20)] | None = None  # a terabyte
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    tactic_sources: tuple[str, ...] | None = None
    time_limit_s: Seconds = 1800
    input: Literal["float", "uint8"] = "float"
    output: Literal["raw", "detections"] = "raw"
    nms: Nms | None = None
    fp32_fallback: Literal["warn", "refuse"] = "warn"
    gpu: Annotated[int | str, BeforeValidator(_gpu)] | None = None
    calibration: Literal["portable", "native"] = "portable"
    strongly_typed: bool = False
    tf32: bool = False
    sparsity: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    dla_core: Annotated[int, Field(ge=0, le=15)] | None = None

    def chosen(self, *names: str) -> dict[str, Any]:
        """Those of the named options that are not at their defaults."""
        return self.model_dump(include=set(names), exclude_defaults=True)


class Toolchain(Frozen):
    """An interpreter with one TensorRT in it."""

    python: str
