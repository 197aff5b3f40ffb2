"""validate-engine: an engine itself, on its GPU: outputs and mAP against the FP32 original on every validation image, and its speed.

No stage of the pipeline: it needs the GPU that the engine was built for. Its report makes the engine `validated`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from enginery.errors import EngineError, EngineryError
from enginery.evaluation.dataset import open_validation_set
from enginery.evaluation.gate import failures
from enginery.evaluation.runners import GraphRunner, RecordedRunner
from enginery.evaluation.validation import GraphReport, compare
from enginery.files import read_json, write_json
from enginery.layout import INT8, engine_report, model_folder
from enginery.registry import Engine, damage
from enginery.report.events import emit, progress
from enginery.spec import Spec, extent
from enginery.toolchain.client import MeasureRequest, measure, probe
from tasks.command import model_head

SLOWER = 1.02  # INT8 may take this much of its fp16 sibling's time
NOISY = 1.25  # p90 / p50 from which a run's times tell more of the machine than of the engine


def validate_engine(spec: Spec, engine: Engine) -> dict[str, Any]:
    """Run, compare, time; write the report and return it. A plan whose bytes changed is not loaded.

    Raises:
        EngineryError: it cannot be run here.
    """
    model, target, precision = engine.folder.parts[-3:]
    _check(spec, engine, target)
    tolerance = spec.validation.of(spec.models[model].task, precision)
    with tempfile.TemporaryDirectory() as folder:
        measured = _measure(spec, engine, Path(folder))
        compared = _compare(spec, model, Path(folder))
    facts, times = compared.to_dict(), measured["timing"]["gpu"]
    report = {
        "plan_sha256": engine.manifest["plan"]["sha256"], "report": facts, "timing": measured["timing"], "gpu": measured["gpu"],
        "tolerance": tolerance,
        "failures": failures(facts, tolerance) + noise(times) + slower(model, target, precision, times),
    }
    write_json(engine_report(model, target, precision), report)
    return report


def noise(times: Mapping[str, float]) -> list[str]:
    """Why a run's times cannot be trusted; empty if they can."""
    ratio = times["p90"] / times["p50"]
    return [f"p90 is {ratio:.1f} times p50: something else uses the GPU, measure again"] if ratio > NOISY else []


def slower(model: str, target: str, precision: str, times: Mapping[str, float]) -> list[str]:
    """Why an INT8 engine is not worth its loss: its fp16 sibling, if it was run here, is as fast."""
    sibling = engine_report(model, target, "fp16")
    if precision != INT8 or not sibling.is_file():
        return []
    mine, other = times["p50"], read_json(sibling)["timing"]["gpu"]["p50"]
    return [f"p50 is {mine:.2f} ms, its fp16 sibling's {other:.2f} ms: INT8 gains nothing on this GPU"] if mine > other * SLOWER else []


def _check(spec: Spec, engine: Engine, target: str) -> None:
    if target not in spec.targets:
        raise EngineryError(f"{engine.name}: its target is not in params.yaml", "Add it again, or remove the engine")
    harm = damage(engine)
    if harm:
        raise EngineryError(f"{harm[0]}; it was not loaded", "Run `enginery build`: it restores the plan")
    info = probe(spec.python_for(target), engine.manifest["runtime"])
    here = [f"{gpu['gpu']} ({gpu['compute_capability']})" for gpu in info.gpus]
    wanted = engine.manifest["compute_capability"]
    if not any(gpu["compute_capability"] == wanted for gpu in info.gpus):
        what = f"{engine.name} is for compute capability {wanted}, and this machine shows its toolchain {', '.join(here) or 'no GPU'}"
        raise EngineError(what, f"Validate it on a machine that has one{f' ({info.no_gpu})' if info.no_gpu else ''}")


def _measure(spec: Spec, engine: Engine, folder: Path) -> dict[str, Any]:
    model, target, _ = engine.folder.parts[-3:]
    wanted = spec.models[model]
    with open_validation_set(Path(wanted.validation), model_head(model), wanted.size) as images:
        np.save(folder / "images.npy", np.stack([image for image, _ in images]))
    request = MeasureRequest(
        engine.manifest["runtime"], engine.plan, engine.manifest["plan"]["sha256"], folder / "images.npy", folder, extent(wanted.batch)[1],
    )
    return measure(spec.python_for(target), request, _forward, spec.targets[target].time_limit_s)


def _forward(event: Mapping[str, Any]) -> None:
    if event.get("severity") not in ("debug", "warning"):
        emit(event)


def _compare(spec: Spec, model: str, folder: Path) -> GraphReport:
    wanted = spec.models[model]
    export = model_folder(model, "export")
    reference = GraphRunner(export / "model.onnx", wanted.size)
    engine = RecordedRunner([np.load(folder / f"{name}.npy", mmap_mode="r") for name in reference.outputs], reference.size)
    return compare(reference, engine, Path(wanted.validation), model_head(model), lambda done, total: progress("images", done, total))
