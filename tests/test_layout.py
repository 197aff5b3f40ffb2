"""Steps: their names, their order, and dvc.yaml's agreement with both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginery.pipeline.recipes import recipes
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.paths import idle_steps, needs, stage_mistakes, steps
from enginery.project.stage import Stage

ROOT = Path(__file__).resolve().parents[1]


def test_titles_and_addresses() -> None:
    step = Stage("build", "yolov8n", "rtx-ada", "fp16")
    assert (step.title, step.address) == (
        "build yolov8n fp16 for rtx-ada",
        "build@yolov8n-rtx-ada-fp16",
    )
    assert step.recipe.as_posix() == "artifacts/recipes/build/yolov8n-rtx-ada-fp16.json"


def test_every_step_comes_after_those_it_needs() -> None:
    ordered = list(steps(load_spec(ROOT / "params.yaml")))
    for index, step in enumerate(ordered):
        assert not any(needs(step, later) for later in ordered[index:])
    register = Stage("register", "m", "t", "fp16")
    assert needs(register, Stage("build", "m", "t", "fp16"))
    assert needs(register, Stage("validate", "m", precision="fp16"))
    assert not needs(register, Stage("build", "m", "other", "fp16"))


def load(folder: Path, **changes: Any) -> Spec:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["matrix"].update(changes.pop("matrix", {}))
    params = {key: value for key, value in {**params, **changes}.items() if value is not None}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return load_spec(folder / "params.yaml")


@pytest.mark.parametrize(
    ("precisions", "made", "idle"),
    [
        (["fp32"], ["fp32"], ["fp16"]),
        (["fp16"], ["fp32", "fp16"], []),
        (["int8"], ["fp32", "int8"], ["fp16"]),
        (["int8", "fp16"], ["fp32", "fp16", "int8"], []),
    ],
)
def test_only_graphs_that_something_reads_are_made(
    tmp_path: Path, precisions: list[str], made: list[str], idle: list[str]
) -> None:
    changes: dict[str, Any] = {} if "int8" in precisions else {"int8": {}}
    spec = load(tmp_path, matrix={"precisions": precisions}, **changes)
    assert [step.precision for step in steps(spec) if step.name == "quantize"] == made
    assert [step.precision for step in idle_steps(spec)] == idle
    written = recipes(spec, lambda target: {}, [])
    assert [written[step.recipe]["parameters"] for step in idle_steps(spec)] == [
        {"needed": False}
    ] * len(idle)


def test_the_demos_stage_and_its_key_go_together(tmp_path: Path) -> None:
    without = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    del without["stages"]["demo-data"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(without))
    here, there = tmp_path / "dvc.yaml", ROOT / "dvc.yaml"
    demo, none = load_spec(ROOT / "params.yaml"), load(tmp_path, demo=None)
    assert [*stage_mistakes(demo, there), *stage_mistakes(none, here)] == []
    [mistake] = stage_mistakes(demo, here)
    assert (
        mistake
        == f"demo: {here} has no stage demo-data for it: take this key out, too, or put the stage back"
    )
    [mistake] = stage_mistakes(none, there)
    assert (
        mistake
        == f"demo: missing: {there} has the stage demo-data: take that out, too, or put this key back"
    )
    del without["stages"]["build"]
    here.write_text(yaml.safe_dump(without))
    assert list(stage_mistakes(none, here)) == [f"{here} has no stage build: put it back"]


def test_dvc_has_the_same_stages() -> None:
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    ).stdout.split()
    assert sorted(listed) == sorted(step.address for step in steps(load_spec(ROOT / "params.yaml")))


@pytest.mark.parametrize("content", ["", "stages: 1\n", "a: [\n", "- 1\n"])
def test_a_damaged_list_of_stages_is_a_mistake(tmp_path: Path, content: str) -> None:
    path = tmp_path / "dvc.yaml"
    path.write_text(content)
    [mistake] = stage_mistakes(load_spec(ROOT / "params.yaml"), path)
    assert mistake.startswith(f"{path} cannot be read as a list of stages (")
