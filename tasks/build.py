"""build: a TensorRT plan, in a child process of the target's toolchain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from enginery.calibration import cache
from enginery.errors import ModelError
from enginery.gpu.inventory import reserved
from enginery.graphs.inspect import GraphInfo, Profile, check_profile, graph_info
from enginery.project.params import BUILD_OPTIONS, Spec, load_spec
from enginery.project.paths import (
    CACHE,
    INT8,
    Step,
    build_folder,
    calibration_images_file,
    model_folder,
    timing_folder,
)
from enginery.report.events import emit, log
from enginery.system.files import read_json, replacing_folder, sha256, write_json
from enginery.toolchain.client import build as build_plan
from enginery.toolchain.requests import BuildRequest, BuildResult
from enginery.toolchain.selection import Choice, Toolchains
from enginery.vision.images import image_folder, preprocess, read_image, save_batch
from tasks.command import recipe, record, run_step
from tasks.refitting import refitted, structure

MINIMUM_MIB = 1024  # GPU memory without which no build is begun


def build(step: Step) -> None:
    """Write the plan; its duration, memory and GPU go into measured.json, which no other step
    reads.
    """
    wanted, spec = recipe(step), load_spec()
    choice = Toolchains(spec).choose(step.target)
    needed = max(MINIMUM_MIB, wanted["workspace_mib"] or 0)
    with (
        replacing_folder(build_folder(step.model, step.target, step.precision)) as folder,
        reserved(choice.gpu, needed, log),
    ):
        request = _request(step, spec, wanted, choice, folder)
        facts, measured = _refitted_or_built(
            step, request, choice, spec.targets[step.target].time_limit_s
        )
        for given in filter(None, (request.cache, request.native_images)):
            given.unlink()  # what only the build needed: no stage knows it beside the plan
        write_json(folder / "record.json", record(step, graph_sha256=sha256(request.onnx), **facts))
        write_json(
            folder / "measured.json",
            {**measured, **({"gpu": asdict(choice.gpu)} if choice.gpu else {})},
        )
    log(f"{facts['plan_bytes'] / 1e6:.1f} MB in {measured['seconds']:.1f} s")


def _refitted_or_built(
    step: Step, request: BuildRequest, choice: Choice, time_limit: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the record says of the plan, and what was measured of its making."""
    found = refitted(step, request, choice.python, time_limit) if request.refittable else None
    if found:
        return found
    result = build_plan(choice.python, request, emit, time_limit)
    if result.skipped_tactics:
        log(
            f"{result.skipped_tactics} tactics were skipped for want of GPU memory: free some, or raise workspace_mib",
            "warning",
        )
    if result.dla_fallback:
        some = ", ".join(result.dla_fallback[:5])
        log(
            f"{len(result.dla_fallback)} layers cannot run on the DLA and fall back to the GPU: {some}",
            "warning",
        )
    measured = {
        "seconds": round(result.seconds, 3),
        "peak_memory_mib": round(result.peak_memory_mib),
    }
    return _facts(request, result), measured


def _facts(request: BuildRequest, result: BuildResult) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "plan_sha256": result.plan_sha256,
        "plan_bytes": result.plan_bytes,
        "weights_sha256": result.weights_sha256,
        "runtime_version": result.runtime_version,
        "messages": list(result.messages),
    }
    if result.skipped_tactics:
        facts["skipped_tactics"] = result.skipped_tactics
    if request.dla_core is not None:
        facts["dla_fallback"] = list(result.dla_fallback)
    if request.refittable:
        weights = list(result.refittable_weights)
        facts |= {"refittable_weights": weights, "structure_sha256": structure(request, weights)}
    if request.native_images and request.cache:
        facts["native_cache"] = request.cache.read_text(encoding="utf-8")
    return facts


def _request(
    step: Step, spec: Spec, wanted: Mapping[str, Any], choice: Choice, folder: Path
) -> BuildRequest:
    own_gpu = wanted["runtime"] == "tensorrt"
    weak = own_gpu and not wanted.get("strongly_typed")
    onnx = model_folder(step.model, "fp32" if weak else step.precision) / "graph" / "model.onnx"
    return BuildRequest(
        runtime=wanted["runtime"],
        onnx=onnx,
        plan=folder / "model.plan",
        name=step.model,
        gpu=choice.visible,
        compute_capability=None if own_gpu else wanted["compute_capability"],
        profiles=_profiles(wanted, graph_info(onnx), onnx.as_posix()),
        workspace_mib=wanted["workspace_mib"],
        optimization_level=wanted["optimization_level"],
        tactic_sources=wanted.get("tactic_sources"),
        **{key: wanted[key] for key in BUILD_OPTIONS if key in wanted},
        **(_timings(wanted, choice) if own_gpu else {}),
        **(_weak(step, spec, wanted, folder) if weak else {}),
    )


def _timings(wanted: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    folder = timing_folder(choice.name, wanted["runtime_version"], wanted["gpu"])
    folder.mkdir(parents=True, exist_ok=True)
    name = (
        choice.gpu.uuid.removeprefix("GPU-")[:8] if choice.gpu else "gpu"
    )  # two cards of a kind must not overwrite each other's
    return {
        "timing_caches": tuple(sorted(folder.glob("*.timing"))),
        "timing_cache": folder / f"builds-{name}.timing",
    }


def _weak(step: Step, spec: Spec, wanted: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a weakly typed TensorRT takes beside the graph: precision, ranges headed for its version
    or images, layers in fp16.
    """
    if step.precision != INT8:
        return {"precision": step.precision}
    graph = model_folder(step.model, INT8) / "graph"
    made = read_json(graph / "record.json")
    if made["calibration"]["own_quantization"]:
        return {"precision": INT8}  # its Q/DQ nodes bring the ranges
    fields: dict[str, Any] = {"cache": folder / CACHE, "fp16_layers": tuple(made["excluded"])}
    if wanted.get("calibration") == "native":
        fields["native_images"] = _calibration_batch(step, spec, folder)
    else:
        cache.write(cache.read(graph / CACHE).headed_for(wanted["runtime_version"]), folder / CACHE)
    return {"precision": INT8, **fields}


def _calibration_batch(step: Step, spec: Spec, folder: Path) -> Path:
    """The calibration images as the network takes them, in one file that the child reads batch by
    batch.
    """
    model = spec.models[step.model]
    source, out = image_folder(Path(spec.int8[step.model].calibration)), folder / "calibration.npy"
    names = read_json(calibration_images_file(step.model))["images"]
    images = (preprocess(read_image(source / name), *model.size, model.task) for name in names)
    save_batch(images, len(names), model.size, out)
    return out


def _profiles(
    wanted: Mapping[str, Any], info: GraphInfo, where: str
) -> tuple[dict[str, dict[str, list[int]]], ...]:
    """The profiles for the graph's image input; checked here because TensorRT reports a bad one
    poorly or not at all.
    """
    name = wanted["input"] or info.inputs[0].name
    profiles: list[dict[str, list[int]]] = wanted.get("profiles") or [wanted["profile"]]
    mistakes = [
        mistake
        for shapes in profiles
        for mistake in check_profile(info, {name: _as_profile(shapes)})
    ]
    if mistakes:
        cure = "Correct batch, height, width, profiles or input of the model in params.yaml"
        raise ModelError(
            f"{where}: the profile does not fit: {'; '.join(dict.fromkeys(mistakes))}", cure
        )
    static = all(isinstance(size, int) for size in info.inputs[0].shape)
    return () if static else tuple({name: shapes} for shapes in profiles)


def _as_profile(shapes: Mapping[str, list[int]]) -> Profile:
    return Profile(**{which: tuple(shape) for which, shape in shapes.items()})


if __name__ == "__main__":
    run_step("build", build, "model", "target", "precision")
