"""Recipes: a tool's upgrade rebuilds what it shapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.pipeline import recipes
from enginery.project.load import load_spec
from enginery.project.params import Spec
from tests.conftest import ROOT
from tests.stages import recipes_of


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return load_spec(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("tool", "steps"),
    [
        ("onnxconverter-common", {"quantize"}),
        ("onnxsim", {"simplify"}),
        ("onnx", {"export", "simplify", "calibrate", "quantize"}),
        ("onnxruntime", {"simplify", "calibrate", "validate"}),
        ("opencv-python", {"demo-data", "calibrate", "validate"}),
        ("numpy", {"demo-data", "calibrate"}),
        ("torch", {"export", "validate"}),
        ("ultralytics", {"export", "validate"}),
        ("prefect", set()),
        ("dvc", set()),
    ],
)
def test_an_upgrade_touches_the_steps_that_use_the_tool(
    spec: Spec, monkeypatch: pytest.MonkeyPatch, tool: str, steps: set[str]
) -> None:
    runtime = {
        "runtime": "tensorrt_rtx",
        "runtime_version": "1",
        "platform": "linux",
        "compute_capability": "8.9",
    }
    runtimes = dict.fromkeys(spec.used_targets(), runtime)
    before, known = recipes_of(spec, runtimes), recipes.version
    monkeypatch.setattr(recipes, "version", lambda name: "99" if name == tool else known(name))
    after = recipes_of(spec, runtimes)
    assert before.keys() == after.keys()
    assert {after[path]["step"] for path in after if after[path] != before[path]} == steps
