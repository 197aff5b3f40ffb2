"""Why a stage is stale, in words: what DVC says, with a changed recipe spelled out (onnxsim 0.8.0
-> 0.8.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from enginery.errors import EngineryError
from enginery.pipeline.step import load_step
from enginery.project.differences import differences
from enginery.project.stage import Stage
from enginery.system.files import read_json


def explain(stage: Stage, said: str) -> str:
    """`said` is Pipeline.stale()'s answer; a recipe's path in it is replaced by what changed in the
    recipe.
    """
    path = stage.recipe.as_posix()
    if path not in said or not stage.recipe.is_file():
        return said
    record = _record(stage)  # the lists of images keep none: they must not change with their recipe
    if record is None:
        return said
    if not record.exists():
        return "never made here"
    old = _recorded_recipe(stage, record)
    if old is None:
        return said  # in which DVC names the file
    changes = ", ".join(differences(old, read_json(stage.recipe)))
    others = [part for part in said.split(", ") if path not in part]
    return ", ".join([*([changes] if changes else []), *others]) or said


def _record(stage: Stage) -> Path | None:
    with suppress(EngineryError):  # a stage without a step of the project's
        return load_step(stage.step).record(stage)
    return None


def _recorded_recipe(stage: Stage, record: Path) -> Mapping[str, Any] | None:
    """The recipe in a record; a manifest holds those of every step."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = read_json(record)
        recipe = content.get("recipe") or content["steps"][stage.step]["recipe"]
        return recipe if isinstance(recipe, dict) else None
    return None
