"""build: a TensorRT plan, in a child process of the target's toolchain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery import runtimes
from enginery.calibration import cache
from enginery.gpu.turns import reserved
from enginery.pipeline.project import Project
from enginery.pipeline.step import Job, step
from enginery.pipeline.workplace import ToolchainInUse, read_workplace
from enginery.project.engine_name import INT8
from enginery.project.paths import (
    CACHE,
    RECORDS,
    build_folder,
    calibration_images_file,
    model_folder,
    timing_folder,
)
from enginery.project.stage import Stage
from enginery.project.target import BUILD_OPTIONS
from enginery.report.events import emit, log
from enginery.system.files import atomic_folder, read_json, sha256, write_json
from enginery.toolchain.client import build as build_plan
from enginery.toolchain.requests import BuildRequest, BuildResult
from enginery.vision.folders import image_folder
from enginery.vision.nms import Nms
from tasks.choices import choices
from tasks.ends import Scaling, own_ends, scaling
from tasks.refitting import refitted, structure

if TYPE_CHECKING:
    from enginery.graphs.inspect import GraphInfo

MINIMUM_MIB = 1024  # GPU memory without which no build is begun
Shapes = Mapping[str, list[int]]  # at min, opt and max


@dataclass(frozen=True)
class NativeCalibration:
    """The images with which TensorRT itself calibrates, and how they are made its input."""

    calibration: str
    height: int
    width: int
    task: str


@dataclass(frozen=True)
class Parameters:
    """What the plan is for, and how TensorRT builds it.

    `profile` holds (batch, 3, height, width); None: no input takes images. `arrays` are the shapes
    of other inputs with open sizes. With `pixels` the engine takes uint8, with `nms` it gives
    detections.
    """

    runtime: str
    runtime_version: str
    platform: str
    compute_capability: str | None
    input: str | None
    profile: Shapes | None
    workspace_mib: int | None
    optimization_level: int | None
    gpu: str | None = None
    profiles: tuple[Shapes, ...] = ()
    tactic_sources: tuple[str, ...] | None = None
    strongly_typed: bool = False
    tf32: bool = False
    sparsity: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: bool = False
    dla_core: int | None = None
    native: NativeCalibration | None = None
    arrays: Mapping[str, Shapes] | None = None
    pixels: Scaling | None = None
    nms: Nms | None = None

    @property
    def weakly_typed(self) -> bool:
        """Whether TensorRT gets the graph in FP32, and the precision as a flag."""
        return runtimes.find(self.runtime).on_own_gpu and not self.strongly_typed


def parameters(project: Project, stage: Stage) -> Parameters:
    """The target's options, the model's shapes, and what this machine's toolchain is."""
    model, target = project.model(stage), project.target(stage)
    native = target.calibration == "native" and stage.precision == INT8
    chosen: dict[str, Any] = {
        **target.chosen("tactic_sources", *BUILD_OPTIONS),
        **project.runtime(stage),
    }
    return Parameters(
        input=model.input,
        profile=model.profile() if model.takes_images else None,
        profiles=tuple(model.all_profiles()) if model.profiles else (),
        arrays=model.array_profiles() or None,
        pixels=scaling(model) if target.input == "uint8" else None,
        nms=(target.nms or Nms()) if target.output == "detections" else None,
        workspace_mib=target.workspace_mib,
        optimization_level=target.optimization_level,
        native=_native(project, stage) if native else None,
        **chosen,
    )


def _native(project: Project, stage: Stage) -> NativeCalibration:
    model = project.model(stage)
    return NativeCalibration(project.int8(stage).calibration, *model.size, model.task)


def tools(project: Project, stage: Stage) -> Sequence[str]:
    """A graph that is built as it is needs none."""
    return ("onnx",) if project.target(stage).chosen("input", "output") else ()


@step(
    "build",
    version=4,
    of=("model", "target", "precision"),
    tools=tools,
    parameters=parameters,
    record=RECORDS["build"],
)
def build(job: Job[Parameters]) -> None:
    """Write the plan; its duration, memory and GPU go into measured.json, which no other step
    reads.
    """
    stage = job.stage
    toolchain = read_workplace().toolchain(stage.target)
    needed = max(MINIMUM_MIB, job.parameters.workspace_mib or 0)
    with (
        atomic_folder(build_folder(stage.model, stage.target, stage.precision)) as folder,
        reserved(toolchain.gpu, needed, log),
    ):
        request = _request(job, toolchain, folder)
        results, measured = _refitted_or_built(stage, request, toolchain)
        record = job.record(graph_sha256=sha256(request.onnx), **results)
        for given in (request.cache, request.native_images, *folder.glob("graph.onnx*")):
            if given:
                given.unlink()  # what only the build needed: no stage knows it beside the plan
        write_json(folder / "record.json", record)
        card = {"gpu": asdict(toolchain.gpu)} if toolchain.gpu else {}
        write_json(folder / "measured.json", {**measured, **card})
    log(f"{results['plan_bytes'] / 1e6:.1f} MB in {measured['seconds']:.1f} s")


def _refitted_or_built(
    stage: Stage, request: BuildRequest, toolchain: ToolchainInUse
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the record says of the plan, and what was measured of its making."""
    limit_s = toolchain.time_limit_s
    made = refitted(stage, request, toolchain.python, limit_s) if request.refittable else None
    if made:
        return made
    result = build_plan(toolchain.python, request, emit, limit_s)
    if result.skipped_tactics:
        what = f"{result.skipped_tactics} tactics were skipped for want of GPU memory"
        log(f"{what}: free some, or raise workspace_mib", "warning")
    if result.dla_fallback:
        some = ", ".join(result.dla_fallback[:5])
        what = f"{len(result.dla_fallback)} layers cannot run on the DLA"
        log(f"{what} and fall back to the GPU: {some}", "warning")
    peak = round(result.peak_memory_mib)
    measured = {"seconds": round(result.seconds, 3), "peak_memory_mib": peak}
    return _results(request, result), measured


def _results(request: BuildRequest, result: BuildResult) -> dict[str, Any]:
    results: dict[str, Any] = {
        **choices(request, result),
        "plan_sha256": result.plan_sha256,
        "plan_bytes": result.plan_bytes,
        "weights_sha256": result.weights_sha256,
        "runtime_version": result.runtime_version,
        "messages": list(result.messages),
    }
    if result.skipped_tactics:
        results["skipped_tactics"] = result.skipped_tactics
    if request.dla_core is not None:
        results["dla_fallback"] = list(result.dla_fallback)
    if request.refittable:
        weights = list(result.refittable_weights)
        results["refittable_weights"] = weights
        results["structure_sha256"] = structure(request, weights)
    if request.native_images and request.cache:
        results["native_cache"] = request.cache.read_text(encoding="utf-8")
    return results


def _request(job: Job[Parameters], toolchain: ToolchainInUse, folder: Path) -> BuildRequest:
    stage, parameters = job.stage, job.parameters
    own_gpu = runtimes.find(parameters.runtime).on_own_gpu
    graph = "fp32" if parameters.weakly_typed else stage.precision
    onnx = model_folder(stage.model, graph) / "graph" / "model.onnx"
    ends = own_ends(onnx, parameters.input, parameters.pixels, parameters.nms, folder)
    options = {option: getattr(parameters, option) for option in BUILD_OPTIONS}
    if parameters.weakly_typed:
        options |= _weak(job, folder, ends.ranges)
    if own_gpu:
        options |= _timings(parameters, toolchain)
    return BuildRequest(
        runtime=parameters.runtime,
        onnx=ends.onnx,
        plan=folder / "model.plan",
        name=stage.model,
        gpu=toolchain.visible,
        compute_capability=None if own_gpu else parameters.compute_capability,
        profiles=_profiles(parameters, ends.info, ends.image, onnx.as_posix()),
        workspace_mib=parameters.workspace_mib,
        optimization_level=parameters.optimization_level,
        tactic_sources=parameters.tactic_sources,
        channels_last=ends.image if parameters.pixels else None,
        plugins=parameters.nms is not None,
        **options,
    )


def _timings(parameters: Parameters, toolchain: ToolchainInUse) -> dict[str, Any]:
    folder = timing_folder(toolchain.name, parameters.runtime_version, str(parameters.gpu))
    folder.mkdir(parents=True, exist_ok=True)
    # Two cards of a kind must not overwrite each other's.
    name = toolchain.gpu.uuid.removeprefix("GPU-")[:8] if toolchain.gpu else "gpu"
    return {
        "timing_caches": tuple(sorted(folder.glob("*.timing"))),
        "timing_cache": folder / f"builds-{name}.timing",
    }


def _weak(job: Job[Parameters], folder: Path, larger: Mapping[str, int]) -> dict[str, Any]:
    """What a weakly typed TensorRT takes beside the graph: precision, ranges headed for its version
    or images, layers in FP16. `larger` are tensors whose values are so many times those that were
    calibrated.
    """
    stage = job.stage
    if stage.precision != INT8:
        return {"precision": stage.precision}
    graph = model_folder(stage.model, INT8) / "graph"
    quantized = read_json(graph / "record.json")
    if quantized["calibration"]["own_quantization"]:
        return {"precision": INT8}  # its Q/DQ nodes bring the ranges
    options: dict[str, Any] = {
        "precision": INT8,
        "cache": folder / CACHE,
        "fp16_layers": tuple(quantized["excluded"]),
    }
    if job.parameters.native:
        images = _calibration_batch(stage.model, job.parameters.native, folder)
        return {**options, "native_images": images}
    headed = cache.read(graph / CACHE).headed_for(job.parameters.runtime_version)
    cache.write(headed.scaled(larger), folder / CACHE)
    return options


def _calibration_batch(model: str, native: NativeCalibration, folder: Path) -> Path:
    """The calibration images as the network takes them, in one file that the child reads batch by
    batch.
    """
    from enginery.vision.images import preprocess, read_image, save_batch

    source, out = image_folder(Path(native.calibration)), folder / "calibration.npy"
    names = read_json(calibration_images_file(model))["images"]
    size = (native.height, native.width)
    images = (preprocess(read_image(source / name), *size, native.task) for name in names)
    save_batch(images, len(names), size, out)
    return out


def _profiles(
    parameters: Parameters, info: GraphInfo, image: str | None, where: str
) -> tuple[dict[str, Shapes], ...]:
    """The profiles for the graph's image input; checked here because TensorRT reports a bad one
    poorly or not at all.
    """
    from enginery.graphs.inspect import fit_profiles

    own = (parameters.profile,) if parameters.profile else ()
    profiles, arrays = parameters.profiles or own, parameters.arrays or {}
    name = fit_profiles(info, profiles, image, where, arrays)
    open_ = {tensor.name for tensor in info.inputs if not tensor.is_static}
    known = [{name: shapes, **arrays} for shapes in profiles] or [dict(arrays)]
    return tuple(
        {each: shapes for each, shapes in profile.items() if each in open_}
        for profile in (known if open_ else ())
    )


if __name__ == "__main__":
    build.main()
