"""How a child program can end badly, as the error that it means: what happened, why, what to do."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from enginery import runtimes
from enginery.errors import (
    BuildError,
    ChildCrashedError,
    ChildTimeoutError,
    DataError,
    EngineError,
    EngineryError,
    GpuError,
    IntegrityError,
    RefitError,
    ToolchainError,
)
from enginery.system.processes import ending

_CHANGE = "The graph must be changed"


def refusal(python: Path, request: Mapping[str, Any], ending: Mapping[str, Any]) -> EngineryError:
    """What a child said why it cannot do a request; its `kind` tells the error."""
    runtime, message = request["runtime"], ending["message"]
    doing, plan, graph = (
        f"{request['do']} with {runtime}",
        request.get("plan", ""),
        request.get("onnx", ""),
    )
    meanings: dict[str, tuple[type[EngineryError], str, str]] = {
        "toolchain": (
            ToolchainError,
            f"{python}: {message}",
            runtimes.find(runtime).install_cure(platform.machine()),
        ),
        "library": (
            ToolchainError,
            f"{python}: {message}",
            "Install the package with this library there",
        ),
        "pycuda": (
            ToolchainError,
            f"{python}: NumPy and pycuda are needed to use a GPU: {message}",
            "Install numpy and pycuda there",
        ),
        "driver": (
            ToolchainError,
            f"{python}: {message}",
            "Install NVIDIA's driver, or use the machine with the GPU",
        ),
        "memory": (
            BuildError,
            f"{doing}: too little memory: {message}",
            "Free GPU memory, use smaller shapes, or change workspace_mib",
        ),
        "parameter": (BuildError, f"{doing}: {message}", "Correct the target in params.yaml"),
        "data": (DataError, f"{doing}: {message}", "Add images, or make the batch smaller"),
        "gpu": (
            GpuError,
            f"{doing}: the GPU failed: {message}",
            "Look at nvidia-smi and the kernel's log, then run again",
        ),
        "refit": (RefitError, f"{doing}: {message}", "Build it"),
        "integrity": (
            IntegrityError,
            f"{plan}: {message}; it was not loaded",
            "`enginery verify --restore` brings it back",
        ),
        "engine": (
            EngineError,
            f"{plan} does not run here: {message}",
            "An engine runs on the GPU and with the TensorRT it was built for",
        ),
        "file": (
            ToolchainError,
            f"{doing}: {message}",
            "Free some space or correct the path, then run again",
        ),
        "parse": (BuildError, f"{runtime} cannot parse {graph}: {message}", _CHANGE),
        "profile": (BuildError, f"{runtime} refused the profile of {graph}: {message}", _CHANGE),
        "build": (BuildError, f"{runtime} could not build {graph}: {message}", _CHANGE),
    }
    error, what, cure = meanings.get(ending["kind"], meanings["toolchain"])  # of no child of ours
    return error(what, cure)


def early_end(
    python: Path,
    request: Mapping[str, Any],
    last: Iterable[str],
    code: int | None,
    time_limit: float,
) -> ToolchainError:
    """A child that came to no result: it ended with an exit code, or (None) was stopped at its time
    limit.
    """
    probing, doing = (
        request["do"] == "probe",
        f"{python}: {request['do']} with {request['runtime']}",
    )
    words = " | ".join(last)
    said = f" Its last words: {words}" if words else ""
    if code is None:
        cure = "Is it on a slow disk?" if probing else "Raise time_limit_s of the target."
        return ChildTimeoutError(
            f"{doing} was stopped at its time limit of {time_limit:g} s", cure + said
        )
    cure = "Install TensorRT there again." if probing else "Nothing else is lost; run again."
    return ChildCrashedError(f"{doing}: the child {ending(code)} without a result", cure + said)
