"""A registered engine on this machine's GPU: it is whole, it is for this GPU, and no other run uses
the GPU meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery import runtimes
from enginery.errors import EngineError, EngineryError, ExcludedTargetError
from enginery.evaluation.engine_report import NOISY
from enginery.gpu.inventory import choose
from enginery.gpu.turns import reserved
from enginery.project.params import Spec
from enginery.project.paths import model_folder
from enginery.registry.store import Engine, check_whole
from enginery.report.events import emit, log
from enginery.system.files import read_json
from enginery.toolchain.client import inspect, measure
from enginery.toolchain.process import OnEvent
from enginery.toolchain.requests import (
    Inspection,
    InspectRequest,
    Measurement,
    MeasureRequest,
    PlanRequest,
    PointRequest,
    PointResult,
)
from enginery.toolchain.selection import Choice, Toolchains, no_gpu

MINIMUM_MIB = 512  # GPU memory without which no engine is loaded
RUNS = 200  # that are timed at a point


def forward_progress(event: Mapping[str, Any]) -> None:
    """Show progress and errors; drop TensorRT's load-time warnings."""
    if event.get("severity") not in ("debug", "warning"):
        emit(event)


@dataclass(frozen=True)
class EngineSession:
    """An engine, and the toolchain and GPU that it runs with."""

    engine: Engine
    choice: Choice
    time_limit_s: float

    @property
    def plan(self) -> PlanRequest:
        """What the child program is told of the plan."""
        engine = self.engine
        return PlanRequest(
            runtime=engine.manifest.runtime,
            plan=engine.plan,
            plan_sha256=engine.manifest.plan.sha256,
            gpu=self.choice.visible,
            host_code=engine.built.version_compatible,
            dla_core=engine.built.dla_core,
            plugins=engine.built.detections is not None,
        )

    def measure(
        self,
        points: Sequence[PointRequest],
        on_event: OnEvent = forward_progress,
        runs: int = RUNS,
    ) -> Measurement:
        """Run the engine at every point, and time it there if `runs` are asked for."""
        request = MeasureRequest(**vars(self.plan), points=tuple(points), runs=runs, noisy=NOISY)
        return measure(self.choice.python, request, on_event, self.time_limit_s)

    def inspect(self) -> Inspection:
        """Take the engine apart, at opt of its first profile."""
        request = InspectRequest(**vars(self.plan), shape=self.engine.built.image_profile.opt)
        return inspect(self.choice.python, request, forward_progress, self.time_limit_s)


@contextmanager
def open_engine(spec: Spec, engine: Engine) -> Iterator[EngineSession]:
    """The session of an engine that is whole and for this GPU, with the GPU to itself.

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
        yield EngineSession(engine, choice, spec.targets[engine.target].time_limit_s)


def read_outputs(
    result: PointResult, folder: Path, names: Sequence[str]
) -> list[NDArray[np.float32]]:
    """What the engine wrote at a point, in the order of `names`: its own order may be another than
    its graph's.
    """
    return [np.load(folder / f"{result.outputs.index(name)}.npy", mmap_mode="r") for name in names]


def check_known(spec: Spec, engine: Engine) -> None:
    """Make sure that params.yaml has the engine's model and target.

    The registry may hold more, from before or from another machine.

    Raises:
        EngineryError: params.yaml lacks one of them.
    """
    for what, known in (
        ("model", engine.model in spec.models),
        ("target", engine.target in spec.targets),
    ):
        if not known:
            cure = "Add it again, or let `enginery prune` remove the engine"
            raise EngineryError(f"{engine.name}: its {what} is not in params.yaml", cure)


def check_original(engine: Engine) -> None:
    """Make sure that the engine was built from the model that is here now.

    The registry keeps the last engine that passed; the model may have been trained again since.

    Raises:
        EngineryError: the model has changed, or is not here.
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
    gpu = choose(None, engine.manifest.compute_capability)
    return replace(choice, gpu=gpu, visible=gpu.uuid) if gpu else choice


def _check_gpu(engine: Engine, choice: Choice) -> None:
    info, manifest = choice.info, engine.manifest
    if any(engine.is_for(gpu["compute_capability"], gpu["gpu"]) for gpu in info.gpus):
        return
    if not info.gpus and runtimes.find(manifest.runtime).on_own_gpu:
        raise no_gpu(engine.target, choice)
    shown = ", ".join(f"{gpu['gpu']} ({gpu['compute_capability']})" for gpu in info.gpus)
    capability = f"compute capability {manifest.compute_capability or 'any'}"
    card = " on ".join(filter(None, (capability, manifest.gpu)))
    why = f"{engine.name} is for {card}, and this machine shows its toolchain {shown or 'no GPU'}"
    cure = f"Use a machine that has one{f' ({info.no_gpu})' if info.no_gpu else ''}"
    raise ExcludedTargetError(engine.target, why, cure)


def _check_runtime(engine: Engine, choice: Choice) -> None:
    """A plan runs on the platform that it was built for, with the TensorRT that built it, or with a
    later one if it was built for that.
    """
    info, manifest = choice.info, engine.manifest
    fits = manifest.runtime_version == info.version or engine.built.version_compatible
    if fits and manifest.platform == info.platform:
        return
    made = f"{manifest.runtime} {manifest.runtime_version} for {manifest.platform}"
    here = f"toolchain {choice.name} is {info.runtime} {info.version} for {info.platform}"
    cure = "Run `enginery build`, or name a toolchain that fits"
    raise EngineError(f"{engine.name} is of {made}, and {here}", cure)
