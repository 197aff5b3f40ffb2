"""Why a step is stale, in words: what DVC says, with a changed recipe spelled out (onnxsim 0.8.0 ->
0.8.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from enginery.errors import DamagedFileError
from enginery.project.paths import Step, build_folder, engine_folder, model_folder
from enginery.registry.manifest import Manifest
from enginery.registry.records import StepRecord, read_record
from enginery.registry.store import MANIFEST
from enginery.system.files import read_json


def explain(step: Step, said: str) -> str:
    """`said` is Pipeline.stale()'s answer; a recipe's path in it is replaced by what changed in the
    recipe.
    """
    record = record_file(
        step
    )  # the lists of images keep none: what they say must not change with their recipe
    if step.recipe.as_posix() not in said or not step.recipe.is_file() or record is None:
        return said
    if not record.exists():
        return "never made here"
    try:
        old = _recorded_recipe(step, record)
    except DamagedFileError:
        return said  # in which DVC names the file
    changes = ", ".join(differences(old, read_json(step.recipe)))
    others = [part for part in said.split(", ") if step.recipe.as_posix() not in part]
    return ", ".join([*([changes] if changes else []), *others]) or said


def differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """Every leaf that differs, as `name old -> new`; the leaf's own key names it."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), key)
    elif old != new:
        yield f"{name} {_text(old)} -> {_text(new)}"


def _text(value: Any) -> str:
    return "none" if value is None else str(value)


def _recorded_recipe(step: Step, record: Path) -> Mapping[str, Any]:
    if step.name == "register":
        return read_record(record, Manifest).steps.registration.recipe.to_json()
    return read_record(record, StepRecord[Mapping[str, Any]]).recipe.to_json()


def record_file(step: Step) -> Path | None:
    """Where a step writes the recipe that it was made by; None if it does not."""
    if step.name in ("export", "simplify"):
        return model_folder(step.model, step.name) / "record.json"
    if step.name == "calibrate":
        return model_folder(step.model, "calibration") / "record.json"
    if step.name == "quantize":
        return model_folder(step.model, step.precision) / "graph" / "record.json"
    if step.name == "validate":
        return model_folder(step.model, step.precision) / "validation.json"
    if step.name == "build":
        return build_folder(step.model, step.target, step.precision) / "record.json"
    if step.name == "register":
        return engine_folder(step.model, step.target, step.precision) / MANIFEST
    return None
