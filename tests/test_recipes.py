"""Recipes: a change touches the steps that it shapes and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enginery.recipes import recipes, write_recipes
from enginery.spec import Spec, load_spec
from enginery.status import differences

ROOT = Path(__file__).resolve().parents[1]


def probe(target: str) -> dict[str, Any]:
    return {"runtime": "tensorrt_rtx", "runtime_version": "1.7.1.116", "platform": "linux_x86_64"}


def changed(before: Spec, after: Spec) -> set[str]:
    old, new = (recipes(found, probe, found.matrix.targets) for found in (before, after))
    return {path.relative_to("artifacts/recipes").as_posix() for path in new if old[path] != new[path]}


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
    assert changed(spec, after) == {f"build/yolov8n-shapes-rtx-ada-{p}.json" for p in ("fp16", "fp32", "int8")}


def test_a_tolerance_touches_registration_only(spec: Spec) -> None:
    after = edit(spec, "validation/map50_95_drop", 0.02)
    assert {name.split("/")[0] for name in changed(spec, after)} == {"register"}


def test_a_models_task_chooses_its_tolerance(spec: Spec) -> None:
    classifies = edit(spec, "models/yolov8n-shapes/task", "classify")
    assert changed(spec, edit(spec, "validation/top1_drop", 0.02)) == set()
    assert {name.split("/")[0] for name in changed(classifies, edit(classifies, "validation/top1_drop", 0.02))} == {"register"}
    touched = {"export", "images", "simplify", "calibration-images", "calibrate", "validate", "register"}
    assert {name.split("/")[0] for name in changed(spec, classifies)} == touched


def test_a_time_limit_or_toolchain_name_shapes_nothing(spec: Spec) -> None:
    assert changed(spec, edit(spec, "targets/rtx-ada/time_limit_s", 5)) == set()


def test_writing_keeps_unchanged_files_and_removes_strangers(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = recipes(spec, probe, spec.matrix.targets)
    write_recipes(found, spec)
    path = next(iter(found))
    stamp = path.stat().st_mtime_ns
    stranger = path.with_name("stranger.json")
    stranger.write_text("{}")
    write_recipes(recipes(spec, probe, ["rtx-ada"]), spec)  # of one target only: the others' stay
    assert path.stat().st_mtime_ns == stamp
    assert not stranger.exists()
    assert all(other.is_file() for other in found)


def test_differences_in_words() -> None:
    old = {"tools": {"onnxsim": "0.8.0"}, "version": 1, "parameters": {"profile": {"min": [1]}}}
    new = {"tools": {"onnxsim": "0.8.1"}, "version": 1, "parameters": {"profile": {"min": [2]}}}
    assert list(differences(old, new)) == ["min [1] -> [2]", "onnxsim 0.8.0 -> 0.8.1"]
