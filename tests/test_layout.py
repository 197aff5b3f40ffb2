"""Steps: their names, their order, and dvc.yaml's agreement with both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from enginery.layout import Step, needs, steps
from enginery.spec import load_spec

ROOT = Path(__file__).resolve().parents[1]


def test_titles_and_addresses() -> None:
    step = Step("build", "yolov8n", "rtx-ada", "fp16")
    assert (step.title, step.address) == ("build yolov8n fp16 for rtx-ada", "build@yolov8n-rtx-ada-fp16")
    assert step.recipe.as_posix() == "artifacts/recipes/build/yolov8n-rtx-ada-fp16.json"


def test_every_step_comes_after_those_it_needs() -> None:
    ordered = list(steps(load_spec(ROOT / "params.yaml")))
    for index, step in enumerate(ordered):
        assert not any(needs(step, later) for later in ordered[index:])
    register = Step("register", "m", "t", "fp16")
    assert needs(register, Step("build", "m", "t", "fp16"))
    assert needs(register, Step("validate", "m", precision="fp16"))
    assert not needs(register, Step("build", "m", "other", "fp16"))


def test_dvc_has_the_same_stages() -> None:
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(listed) == sorted(step.address for step in steps(load_spec(ROOT / "params.yaml")))
