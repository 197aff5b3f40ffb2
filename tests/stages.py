"""The stages that dvc.yaml makes of params.yaml, and their recipes, without DVC."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from enginery.pipeline.fingerprint import fingerprint
from enginery.pipeline.matrix import matrix
from enginery.pipeline.project import Project
from enginery.pipeline.recipes import recipe
from enginery.pipeline.step import load_step
from enginery.project.load import load_spec
from enginery.project.params import Spec
from enginery.project.stage import Stage


def stages_of(spec: Spec) -> list[Stage]:
    """tests/graph holds them to what DVC reads."""
    made = matrix(spec)
    found = [Stage("fingerprint"), *([Stage("demo-data")] if spec.demo else [])]
    for model in made["models"]:
        found += [Stage(step, model) for step in ("export", "images", "simplify")]
    for model in made["calibrated"]:
        found += [Stage(step, model) for step in ("calibration-images", "calibrate")]
        found += [Stage("quantize", model, precision="int8")]
    found += [Stage("quantize", **each) for each in made["graphs"].values()]
    found += [Stage("validate", **each) for each in made["validations"].values()]
    for step in ("build", "register"):
        found += [Stage(step, **each) for each in made["engines"].values()]
    return found + [Stage("timing", toolchain=name) for name in made["toolchains"]]


def recipes_of(
    spec: Spec, runtimes: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[Path, dict[str, Any]]:
    """The recipe of every stage, by its path; of targets only if their runtimes are given."""
    project = Project(spec, runtimes or {})
    return {
        stage.recipe: recipe(load_step(stage.step), project, stage)
        for stage in stages_of(spec)
        if stage.step != "fingerprint" and (not stage.target or stage.target in project.runtimes)
    }


def fingerprinted(targets: Collection[str] | None = None) -> dict[str, Any]:
    """The fingerprint of params.yaml in this folder."""
    spec = load_spec()
    return fingerprint(spec, stages_of(spec), targets)
