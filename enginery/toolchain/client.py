"""What a toolchain does, as functions: each starts a fresh child process in it and waits for its
result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from enginery.system.files import atomic_write
from enginery.toolchain.plan import check_built, check_digest
from enginery.toolchain.precisions import read_layers
from enginery.toolchain.process import Child, OnEvent
from enginery.toolchain.requests import (
    BuildRequest,
    BuildResult,
    Inspection,
    InspectRequest,
    Measurement,
    MeasureRequest,
    PointResult,
    RefitRequest,
    RefitResult,
    ToolchainInfo,
)

_PROBE_LIMIT_S = 120


def probe(python: Path, runtime: str, gpu: str | None = None) -> ToolchainInfo:
    """Ask a toolchain what it is; `gpu` (an index or UUID) is the only GPU it then sees.

    Raises:
        ToolchainError: the interpreter or its TensorRT is missing or broken.
    """
    result = Child(
        python, {"do": "probe", "runtime": runtime, "gpu": gpu}, lambda event: None
    ).result(_PROBE_LIMIT_S)
    return ToolchainInfo(**_tuples(result))


def build(python: Path, request: BuildRequest, on_event: OnEvent, time_limit: float) -> BuildResult:
    """Build a plan; `request.plan` appears whole and checked, or not at all.

    Raises:
        BuildError: TensorRT refused the graph or the profile.
        ChildCrashedError, ChildTimeoutError, ToolchainError: the child did not come to a result.
    """
    with atomic_write(request.plan) as partial:
        child = Child(python, {**asdict(request), "do": "build", "plan": partial}, on_event)
        result = child.result(time_limit)
        check_built(partial, result["plan_sha256"], request.runtime, request.compute_capability)
    result["layers"] = read_layers(result["layers"])
    return BuildResult(**_tuples(result), messages=tuple(child.warnings))


def refit(python: Path, request: RefitRequest, on_event: OnEvent, time_limit: float) -> RefitResult:
    """Replace a plan's weights; `request.out` appears whole and checked, or not at all.

    Raises:
        RefitError: these weights do not fit this plan.
        IntegrityError: the plan is not the one recorded.
        ChildCrashedError, ChildTimeoutError, ToolchainError: the child did not come to a result.
    """
    with atomic_write(request.out) as partial:
        result = Child(python, {**asdict(request), "do": "refit", "out": partial}, on_event).result(
            time_limit
        )
        check_digest(partial, result["plan_sha256"])
    return RefitResult(**result)


def measure(
    python: Path, request: MeasureRequest, on_event: OnEvent, time_limit: float
) -> Measurement:
    """Run an engine on every image of every point and time it there.

    Raises:
        IntegrityError: the plan is not the one recorded; it was not loaded.
        EngineError: TensorRT could not load or run it on this GPU, or a shape is outside its
            profiles.
        ChildCrashedError, ChildTimeoutError, ToolchainError: the child did not come to a result.
    """
    answer = Child(python, {**asdict(request), "do": "measure"}, on_event).result(time_limit)
    points = (PointResult(**_tuples(point)) for point in answer["points"])
    return Measurement(tuple(points), answer["gpu"])


def inspect(
    python: Path, request: InspectRequest, on_event: OnEvent, time_limit: float
) -> Inspection:
    """Take an engine apart, and time each of its layers.

    Raises:
        As `measure`.
    """
    answer = Child(python, {**asdict(request), "do": "inspect"}, on_event).result(time_limit)
    return Inspection(**_tuples(answer))


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
