"""A registered engine on this machine's GPU: is it for it, whose turn is it, and what is the child
program told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.errors import EngineError, EngineryError, ExcludedTargetError
from enginery.gpu.inventory import choose, reserved
from enginery.project.params import Spec
from enginery.project.paths import model_folder
from enginery.registry.store import Engine, check_whole
from enginery.report.events import emit, log
from enginery.system.files import read_json
from enginery.toolchain.selection import Choice, Toolchains, no_gpu

MINIMUM_MIB = 512  # GPU memory without which no engine is loaded


@contextmanager
def on_gpu(spec: Spec, engine: Engine) -> Iterator[Choice]:
    """The toolchain and GPU of an engine, which is whole and for this GPU, and the GPU to oneself.

    Raises:
        EngineryError: it cannot be run here.
    """
    check_known(spec, engine)
    choice = _with_gpu(engine, Toolchains(spec).choose(engine.target))
    _check_gpu(engine, choice)  # before what only the engine's own machine can mend
    _check_runtime(engine, choice)
    check_whole(engine)
    check_original(engine)
    with reserved(choice.gpu, MINIMUM_MIB, log):
        yield choice


def plan_of(engine: Engine, choice: Choice) -> dict[str, Any]:
    """The fields of a PlanRequest."""
    return {
        "runtime": engine.manifest.runtime,
        "plan": engine.plan,
        "plan_sha256": engine.manifest.plan.sha256,
        "gpu": choice.visible,
        "host_code": engine.built.version_compatible,
        "dla_core": engine.built.dla_core,
    }


def outputs_of(
    found: Mapping[str, Any], folder: Path, names: Sequence[str]
) -> list[NDArray[np.float32]]:
    """What a measured point wrote into its folder, in the order of `names`: an engine's outputs may
    have another than its graph's.
    """
    return [
        np.load(folder / f"{found['outputs'].index(name)}.npy", mmap_mode="r") for name in names
    ]


def forward_progress(event: Mapping[str, Any]) -> None:
    """Show progress and errors; what TensorRT remarks while it loads an engine is for nobody."""
    if event.get("severity") not in ("debug", "warning"):
        emit(event)


def check_known(spec: Spec, engine: Engine) -> None:
    """The registry may hold more than params.yaml, from before or from another machine.

    Raises:
        EngineryError: it does.
    """
    for what, known in (
        ("model", engine.model in spec.models),
        ("target", engine.target in spec.targets),
    ):
        if not known:
            cure = "Add it again, or let `enginery prune` remove the engine"
            raise EngineryError(f"{engine.name}: its {what} is not in params.yaml", cure)


def check_original(engine: Engine) -> None:
    """The registry keeps the last engine that passed: it may be of a model that has been trained
    again since.

    Raises:
        EngineryError: it is.
    """
    export = model_folder(engine.model, "export") / "record.json"
    if not export.is_file():
        raise EngineryError(
            f"{engine.name}: {export} is missing: its original is not here",
            "Run `enginery build` first",
        )
    if read_json(export) != engine.manifest.steps.export.to_json():
        raise EngineryError(
            f"{engine.name}: its model has changed since it was built", "Run `enginery build` first"
        )


def _with_gpu(engine: Engine, choice: Choice) -> Choice:
    """TensorRT-RTX builds without a GPU; to run, it takes the first that the engine is for."""
    if choice.gpu:
        return choice
    wanted = engine.manifest.compute_capability
    fitting = choose(None, wanted)
    return replace(choice, gpu=fitting, visible=fitting.uuid) if fitting else choice


def _check_gpu(engine: Engine, choice: Choice) -> None:
    info, manifest = choice.info, engine.manifest
    if any(engine.is_for(gpu["compute_capability"], gpu["gpu"]) for gpu in info.gpus):
        return
    if not info.gpus and engine.manifest.runtime == "tensorrt":
        raise no_gpu(engine.target, choice)
    shown = (
        ", ".join(f"{gpu['gpu']} ({gpu['compute_capability']})" for gpu in info.gpus) or "no GPU"
    )
    wanted = " on ".join(
        filter(None, (f"compute capability {manifest.compute_capability or 'any'}", manifest.gpu))
    )
    why = f"{engine.name} is for {wanted}, and this machine shows its toolchain {shown}"
    raise ExcludedTargetError(
        engine.target,
        why,
        f"Use a machine that has one{f' ({info.no_gpu})' if info.no_gpu else ''}",
    )


def _check_runtime(engine: Engine, choice: Choice) -> None:
    """A plan runs with the TensorRT that built it, unless it was built to run with later ones, too,
    and where it was built for.
    """
    has, wanted = choice.info, engine.manifest
    runs_here = wanted.runtime_version == has.version or engine.built.version_compatible
    if not runs_here or wanted.platform != has.platform:
        made = f"{wanted.runtime} {wanted.runtime_version} for {wanted.platform}"
        what = f"{engine.name} is of {made}, and toolchain {choice.name} is {has.runtime} {has.version} for {has.platform}"
        raise EngineError(what, "Run `enginery build`, or name a toolchain that fits")
