"""Recipes: a change touches the steps that it shapes and no other."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from onnx import TensorProto, helper

from enginery.errors import EngineryError, ModelError
from enginery.graphs import provider, session
from enginery.pipeline.recipes import write_recipes
from enginery.project.differences import differences
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.paths import RECIPES
from tests.stages import recipes_of, stages_of

ROOT = Path(__file__).resolve().parents[1]
EXPORT, CALIBRATE = (
    RECIPES / "export/yolov8n-shapes.json",
    RECIPES / "calibrate/yolov8n-shapes.json",
)
RUNTIME = {
    "runtime": "tensorrt_rtx",
    "runtime_version": "1.7.1.116",
    "platform": "linux_x86_64",
    "compute_capability": "8.9",
}


def runtimes(spec: Spec) -> dict[str, dict[str, Any]]:
    """As if this machine could build for every target."""
    return dict.fromkeys(spec.used_targets(), RUNTIME)


def changed(before: Spec, after: Spec) -> set[str]:
    old, new = (recipes_of(spec, runtimes(spec)) for spec in (before, after))
    return {
        path.relative_to("artifacts/recipes").as_posix() for path in new if old[path] != new[path]
    }


def edit(spec: Spec, dotted: str, value: Any) -> Spec:
    raw = spec.model_dump()
    place = raw
    *parents, last = dotted.split("/")
    for key in parents:
        place = place[key]
    place[last] = value
    return Spec.model_validate(raw)


@pytest.fixture
def spec() -> Spec:
    return load_spec(ROOT / "params.yaml")


def test_a_target_parameter_touches_its_builds(spec: Spec) -> None:
    after = edit(spec, "targets/rtx-ada/optimization_level", 2)
    assert changed(spec, after) == {
        f"build/yolov8n-shapes-rtx-ada-{p}.json" for p in ("fp16", "fp32", "int8")
    }


def test_a_tolerance_touches_registration_only(spec: Spec) -> None:
    after = edit(spec, "validation/map50_95_drop", 0.02)
    assert {name.split("/")[0] for name in changed(spec, after)} == {"register"}


def test_a_models_task_chooses_its_tolerance(spec: Spec) -> None:
    classifies = edit(spec, "models/yolov8n-shapes/task", "classify")
    assert changed(spec, edit(spec, "validation/top1_drop", 0.02)) == set()
    assert {
        name.split("/")[0]
        for name in changed(classifies, edit(classifies, "validation/top1_drop", 0.02))
    } == {"register"}
    touched = {
        "export",
        "images",
        "simplify",
        "calibration-images",
        "calibrate",
        "validate",
        "register",
    }
    assert {name.split("/")[0] for name in changed(spec, classifies)} == touched


def test_a_time_limit_or_toolchain_name_shapes_nothing(spec: Spec) -> None:
    assert changed(spec, edit(spec, "targets/rtx-ada/time_limit_s", 5)) == set()


def test_what_an_export_does_not_use_touches_no_onnx(spec: Spec) -> None:
    """Neither opset nor shapes: those of an ONNX are its own, and its export needs no torch."""
    name = "models/yolov8n-shapes"
    graph = edit(spec, f"{name}/source", "own.onnx")
    for key, value in (("opset", 18), ("height", 320), ("batch", 2)):
        assert "export/yolov8n-shapes.json" in changed(spec, edit(spec, f"{name}/{key}", value))
        assert "export/yolov8n-shapes.json" not in changed(
            graph, edit(graph, f"{name}/{key}", value)
        )
    recipe = recipes_of(graph)[EXPORT]
    assert recipe["parameters"] == {"source": "own.onnx", "task": "detect"}
    assert list(recipe["tools"]) == ["onnx"]
    assert list(recipes_of(spec)[EXPORT]["tools"]) == ["ultralytics", "torch", "onnx"]


def test_a_gpu_that_calibrates_is_part_of_the_recipe(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = recipes_of(spec)
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    assert recipes_of(spec) == on_cpu  # ONNX Runtime knows GPUs, and this machine has none
    monkeypatch.setattr(provider, "gpus", lambda: ["a GPU"])
    on_gpu = recipes_of(spec)
    assert [path.parent.name for path in on_gpu if on_gpu[path] != on_cpu[path]] == ["calibrate"]
    differing = differences(on_cpu[CALIBRATE], on_gpu[CALIBRATE])
    assert list(differing) == ["provider none -> CUDAExecutionProvider"]


def test_a_provider_that_does_not_start_is_no_cpu_in_disguise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This ONNX Runtime has no CUDA: asked for it, it goes on with the CPU and a warning."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert session.open_model(model, "it").get_providers() == ["CPUExecutionProvider"]
    monkeypatch.setattr(session, "fastest_provider", lambda: "CUDAExecutionProvider")
    with pytest.raises(ModelError, match="CUDAExecutionProvider does not start on this machine"):
        session.open_model(model, "it")


def test_a_package_under_another_name(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {
        "onnxruntime": "",
        "onnxruntime-gpu": "1.31.1",
        "opencv-python": "",
        "opencv-python-headless": "5.0",
    }

    def version(package: str) -> str:
        if not versions.get(package, "1"):
            raise PackageNotFoundError(package)
        return versions.get(package, "1")

    monkeypatch.setattr("enginery.pipeline.recipes.version", version)
    assert recipes_of(spec)[CALIBRATE]["tools"] == {
        "numpy": "1",
        "onnx": "1",
        "onnxruntime": "1.31.1",
        "opencv-python": "5.0",
    }
    versions["onnxruntime-gpu"] = ""
    with pytest.raises(EngineryError, match="the package onnxruntime is not installed here"):
        recipes_of(spec)


def test_writing_keeps_unchanged_files_and_removes_strangers(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stages, every = stages_of(spec), recipes_of(spec, runtimes(spec))
    by_path = {stage.recipe: stage for stage in stages}
    found = {by_path[path]: content for path, content in every.items()}
    assert len(found) == len(stages) - 1  # the fingerprint has none
    write_recipes(found, stages)
    path = next(iter(every))
    stamp = path.stat().st_mtime_ns
    stranger = path.with_name("stranger.json")
    stranger.write_text("{}")
    ada = {stage: content for stage, content in found.items() if stage.target == "rtx-ada"}
    write_recipes(ada, stages)  # of one target only: the others' stay
    assert path.stat().st_mtime_ns == stamp
    assert not stranger.exists()
    assert all(other.is_file() for other in every)


def test_differences_in_words() -> None:
    old = {"tools": {"onnxsim": "0.8.0"}, "version": 1, "parameters": {"profile": {"min": [1]}}}
    new = {"tools": {"onnxsim": "0.8.1"}, "version": 1, "parameters": {"profile": {"min": [2]}}}
    assert list(differences(old, new)) == ["min [1] -> [2]", "onnxsim 0.8.0 -> 0.8.1"]
    counting = {"calibration": "a", "counting": {"algorithm": "mse", "height": 8}}
    gone = ["algorithm mse -> none", "height 8 -> none"]
    assert list(differences(counting, {"calibration": "a"})) == gone
    assert list(differences({"a": None}, {"a": 0})) == ["a none -> 0"]
    assert list(differences({"a": None}, {})) == []
