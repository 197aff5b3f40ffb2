"""An engine's steps, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from enginery.project.engine_name import EngineName
from enginery.project.paths import BUILDS, model_folder
from enginery.project.stage import Stage, record_file
from enginery.registry.store import Engine
from enginery.system.files import read_json, write_json
from tests.registered import compared, profile

ASKED_FOR = [EngineName("m", "server", "fp16")]
NAME = "m/server/fp16"
MODEL_STEPS = (Stage("export", "m"), Stage("simplify", "m"))
GRAPH_STEPS = tuple(Stage(name, "m", precision="fp16") for name in ("quantize", "validate"))
STEPS = (*MODEL_STEPS, *GRAPH_STEPS, Stage("build", "m", "server", "fp16"))
REGISTER = Stage("register", "m", "server", "fp16")
FAILED = "raw outputs differ by 0.5 (RMS, relative), 0.02 is allowed"


def leave_results(engine: Engine) -> None:
    """What the steps of an engine leave on disk, and the recipes that they were made by."""
    steps = engine.manifest.steps.to_json()
    for step in (*STEPS, REGISTER):
        write_json(step.recipe, steps[step.step]["recipe"])
        if step != REGISTER:
            write_json(record_file(step), steps[step.step])
    write_json(BUILDS / NAME / "measured.json", {"seconds": 1.25})


def change(path: Path, edit: Callable[[Any], object]) -> None:
    found = read_json(path)
    edit(found)
    write_json(path, found)


def rebuild(batch: int, rms: float) -> None:
    """What a run leaves whose graph is for another batch and as far from the original as this."""

    def exported(recipe: Any) -> None:
        recipe["parameters"]["batch"] = batch

    def built(recipe: Any) -> None:
        recipe["parameters"]["profile"] = profile(batch, batch, batch)

    for step, edit in ((STEPS[0], exported), (STEPS[-1], built)):
        change(step.recipe, edit)
        path = record_file(step)
        change(path, lambda record, edit=edit: edit(record["recipe"]))
    change(
        model_folder("m", "fp16") / "validation.json",
        lambda record: record.update(report=compared(rms=rms)),
    )
    write_json(BUILDS / NAME / "measured.json", {"seconds": 99.0})
