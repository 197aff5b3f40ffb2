"""build: a TensorRT plan, in a child process of the target's toolchain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enginery.calibration import cache
from enginery.errors import ModelError
from enginery.files import read_json, replacing_folder, write_json
from enginery.graphs.inspect import GraphInfo, Profile, check_profile, graph_info
from enginery.layout import CACHE, INT8, UNTYPED, Step, build_folder, model_folder, timing_cache
from enginery.report.events import emit, log
from enginery.spec import load_spec
from enginery.toolchain.client import BuildRequest, BuildResult
from enginery.toolchain.client import build as build_plan
from tasks.command import recipe, record, run_step


def build(step: Step) -> None:
    """Write the plan; its duration and memory go into measured.json, which no other step reads."""
    wanted = recipe(step)
    own_gpu = wanted["runtime"] == "tensorrt"
    weak = own_gpu and not wanted["strongly_typed"]
    onnx = model_folder(step.model, step.precision) / "graph" / (UNTYPED if weak else "model.onnx")
    profile = _profile(wanted, graph_info(onnx), onnx.as_posix())
    spec = load_spec()
    with replacing_folder(build_folder(step.model, step.target, step.precision)) as folder:
        request = BuildRequest(
            runtime=wanted["runtime"], onnx=onnx, plan=folder / "model.plan", name=step.model,
            compute_capability=None if own_gpu else wanted["compute_capability"], profile=profile,
            workspace_mib=wanted["workspace_mib"], optimization_level=wanted["optimization_level"],
            tactic_sources=wanted.get("tactic_sources"), **(_weak(step, wanted, folder) if weak else {}),
        )
        result = build_plan(spec.python_for(step.target), request, emit, spec.targets[step.target].time_limit_s)
        write_json(folder / "record.json", record(step, **_facts(result)))
        measured = {"seconds": round(result.seconds, 3), "peak_memory_mib": round(result.peak_memory_mib)}
        write_json(folder / "measured.json", measured)
    log(f"built {result.plan_bytes / 1e6:.1f} MB in {result.seconds:.1f} s, {result.peak_memory_mib:.0f} MiB at most")


def _weak(step: Step, wanted: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a weakly typed TensorRT takes beside the graph: precision, ranges headed for its version, layers in fp16, timings."""
    timings = timing_cache(f"{wanted['runtime']}-{wanted['runtime_version']}", wanted["gpu"])
    timings.parent.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {"precision": step.precision, "timing_cache": timings}
    if step.precision == INT8:
        graph = model_folder(step.model, INT8) / "graph"
        ranges = cache.read(graph / CACHE)
        cache.write(ranges.headed_for(wanted["runtime_version"]), folder / CACHE)
        fields |= {"cache": folder / CACHE, "float_layers": tuple(read_json(graph / "record.json")["excluded"])}
    return fields


def _facts(result: BuildResult) -> dict[str, Any]:
    return {
        "plan_sha256": result.plan_sha256, "plan_bytes": result.plan_bytes, "weights_sha256": result.weights_sha256,
        "runtime_version": result.runtime_version, "messages": list(result.messages),
    }


def _profile(wanted: Mapping[str, Any], info: GraphInfo, where: str) -> dict[str, dict[str, list[int]]]:
    """The profile for the graph's image input; checked here because TensorRT reports a bad one poorly or not at all."""
    name = wanted["input"] or info.inputs[0].name
    shapes: dict[str, list[int]] = wanted["profile"]
    mistakes = check_profile(info, {name: Profile(**{which: tuple(shape) for which, shape in shapes.items()})})
    if mistakes:
        cure = "Correct batch, height, width or input of the model in params.yaml"
        raise ModelError(f"{where}: the profile does not fit: {'; '.join(mistakes)}", cure)
    static = all(isinstance(size, int) for size in info.inputs[0].shape)
    return {} if static else {name: shapes}


if __name__ == "__main__":
    run_step("build", build, "model", "target", "precision")
