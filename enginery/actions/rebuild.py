"""rebuild: an engine built again from its own recipe and with the timing cache that it kept, in a
folder of its own, and held against the registered one: bytes, kernels, outputs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginery.actions.engine_session import check_known
from enginery.errors import EngineError, EngineryError
from enginery.evaluation.rebuilt import Rebuilt, compare_plans
from enginery.project.params import Spec
from enginery.project.paths import (
    ARTIFACTS,
    RECORDS,
    TIMING,
    WORKPLACE,
    build_folder,
    kept_timing,
    timing_folder,
)
from enginery.project.stage import Stage
from enginery.registry.store import PLAN, Engine, check_whole
from enginery.report.events import VARIABLE, emit, log
from enginery.system.files import atomic_write, read_json, scratch, write_json
from enginery.toolchain.client import inspect, measure
from enginery.toolchain.requests import (
    Inspection,
    InspectRequest,
    MeasureRequest,
    PlanRequest,
    PointRequest,
)
from enginery.toolchain.selection import Choice, Toolchains

_OWN = {"build", "recipes", "timing", "engines"}  # of artifacts/: the rebuild has others


def rebuild(spec: Spec, engine: Engine, out: Path | None = None) -> Rebuilt:
    """Build an engine again and compare; `out` keeps the new plan.

    Raises:
        EngineryError: this machine cannot build it, or what it was built from is another now.
    """
    check_known(spec, engine)
    check_whole(engine)
    choice = Toolchains(spec).choose(engine.target)
    _check_runtime(engine, choice)
    with scratch(ARTIFACTS) as folder:
        _lay_out(folder, engine, choice)
        _run(folder, engine)
        built = folder / build_folder(engine.model, engine.target, engine.precision)
        record = read_json(built / Path(RECORDS["build"]).name)
        _check_graph(engine, record)
        weights = engine.manifest.plan.weights_sha256
        same_weights = weights is not None and weights == record["weights_sha256"]
        found = replace(compare_plans(engine.plan, built / PLAN), same_weights=same_weights)
        if not found.same_bytes and choice.gpu:
            limit, digest = spec.targets[engine.target].time_limit_s, record["plan_sha256"]
            found = _with_kernels(found, engine, built / PLAN, digest, choice, limit)
        if out:
            with atomic_write(out) as partial:
                shutil.copyfile(built / PLAN, partial)
    return found


def _check_runtime(engine: Engine, choice: Choice) -> None:
    made, here = engine.manifest, choice.info
    if (made.runtime_version, made.platform) != (here.version, here.platform):
        what = f"{engine.name} is of {made.runtime} {made.runtime_version} for {made.platform}"
        why = f"toolchain {choice.name} is {here.runtime} {here.version} for {here.platform}"
        raise EngineError(f"{what}, and {why}", "Name the toolchain that built it")


def _check_graph(engine: Engine, record: Mapping[str, Any]) -> None:
    if record["graph_sha256"] != engine.manifest.steps.build.graph_sha256:
        what = f"{engine.name}: its graph is another now"
        raise EngineError(what, "`enginery build` makes the engine of the new one")


def _lay_out(folder: Path, engine: Engine, choice: Choice) -> None:
    """The project as it is, but for what this engine's build reads and writes."""
    if not WORKPLACE.is_file():
        raise EngineError(f"{WORKPLACE} is missing: nothing was built here", "`enginery build`")
    here = Path.cwd()
    (folder / ARTIFACTS).mkdir()
    shared = [path for path in here.iterdir() if path.name != ARTIFACTS.name]
    shared += [path for path in (here / ARTIFACTS).iterdir() if path.name not in _OWN]
    for path in shared:
        if path != folder.resolve():
            (folder / path.relative_to(here)).symlink_to(path)
    recipe = folder / _stage(engine).recipe
    recipe.parent.mkdir(parents=True)
    write_json(recipe, engine.manifest.steps.build.recipe.to_json())
    _lay_timing(folder, engine, choice)


def _lay_timing(folder: Path, engine: Engine, choice: Choice) -> None:
    """The engine's own timing cache, and no other."""
    manifest, digest = engine.manifest, engine.manifest.steps.build.timing_cache_sha256
    if digest is None:
        return
    name = kept_timing(Path(), digest).name
    kept = next(TIMING.rglob(f"kept/{name}"), None)
    if kept is None:
        what = f"{engine.name}: its timing cache {digest[:12]} is not here: kernels are timed anew"
        log(f"{what}; `enginery pull` or `dvc pull` brings it", "warning")
        return
    place = timing_folder(choice.name, manifest.runtime_version, str(manifest.gpu))
    (folder / place).mkdir(parents=True)
    shutil.copyfile(kept, folder / place / name)


def _stage(engine: Engine) -> Stage:
    return Stage("build", engine.model, engine.target, engine.precision)


def _run(folder: Path, engine: Engine) -> None:
    """The project's own step, as DVC would run it."""
    command = [sys.executable, "-m", "tasks.build", engine.model, engine.target, engine.precision]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, VARIABLE: "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        error = _follow(process)
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
    if process.returncode:
        raise EngineryError(f"{engine.name} was not built again: {error}", "See its build")


def _follow(process: subprocess.Popen[str]) -> str:
    """Show how far the step is; why it failed, if it did."""
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            last = line.strip() or last
            continue
        if event.get("event") == "error":
            last = event["message"]
        elif event.get("event") == "progress":
            emit(event)
    return last


def _with_kernels(
    found: Rebuilt, engine: Engine, plan: Path, digest: str, choice: Choice, time_limit_s: float
) -> Rebuilt:
    """Which layers run another kernel, and how far outputs are apart, on the engine's GPU."""
    built, manifest = engine.built, engine.manifest
    shape, kernels, outputs = built.image_profile.opt, [], []
    np.save(plan.with_name("random.npy"), _random(shape, built.takes_pixels))
    for path, sha256 in ((engine.plan, manifest.plan.sha256), (plan, digest)):
        where = PlanRequest(
            manifest.runtime,
            path,
            sha256,
            choice.visible,
            built.version_compatible,
            built.dla_core,
            built.detections is not None,
        )
        inspection = InspectRequest(**vars(where), shape=shape)
        kernels.append(dict(_kernels(inspect(choice.python, inspection, _drop, time_limit_s))))
        point = PointRequest(shape, plan.with_name("random.npy"), plan.parent, timed=False)
        request = MeasureRequest(**vars(where), points=(point,), runs=0)
        names = measure(choice.python, request, _drop, time_limit_s).points[0].outputs
        outputs.append([np.load(plan.with_name(f"{each}.npy")) for each in range(len(names))])
    layers = kernels[0].keys() | kernels[1].keys()
    other = sorted(name for name in layers if kernels[0].get(name) != kernels[1].get(name))
    apart = [float(np.abs(a.astype(np.float64) - b).max()) for a, b in zip(*outputs, strict=True)]
    return replace(found, layers=len(layers), other_kernels=tuple(other), distance=max(apart))


def _random(shape: tuple[int, ...], pixels: bool) -> NDArray[Any]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, shape, np.uint8) if pixels else random.random(shape, np.float32)


def _kernels(inspection: Inspection) -> Iterator[tuple[str, str]]:
    for layer in inspection.layers:
        if isinstance(layer, Mapping):
            name, value = layer.get("TacticName", ""), layer.get("TacticValue", "")
            yield str(layer["Name"]), f"{name} {value}"


def _drop(event: Mapping[str, Any]) -> None:
    """Nobody waits for what TensorRT says while it loads."""
