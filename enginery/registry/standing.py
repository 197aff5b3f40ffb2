"""How a registered engine stands today.

Nothing of it is stored: it follows from params.yaml and from what the steps left on disk.

- damaged: its manifest or plan is not whole
- retired: the matrix of params.yaml does not have it any more
- outdated: the last that passed; the steps have newer recipes or results
- validated, candidate: what checked it
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any, Literal

from enginery.errors import DamagedFileError
from enginery.evaluation.reports import ToleranceRecord, refusals
from enginery.project.differences import differences
from enginery.project.engine_name import EngineName
from enginery.project.paths import build_folder, model_folder
from enginery.project.stage import Stage, record_file
from enginery.registry.built import BuildParameters, BuildRecord
from enginery.registry.manifest import ValidationRecord
from enginery.registry.records import NotNegative, Recipe, Record, StepRecord, read_record
from enginery.registry.store import DamagedEngine, Engine, Entry

State = Literal["damaged", "retired", "outdated", "validated", "candidate"]
_NAMED_CHANGES = 3
_BUILD = "Run `enginery build`: it registers the newest"
_VALIDATE = "Run `enginery validate` on its GPU's machine: it writes the report again"


@dataclass(frozen=True)
class Standing:
    """A state, the reason where it needs one, and what to do."""

    state: State
    reason: str = ""
    cure: str = ""


RETIRED = Standing(
    "retired",
    "params.yaml does not ask for it any more",
    "`enginery prune` removes what is retired",
)


class Measured(Record):
    """What a build measured of itself."""

    seconds: NotNegative


def standing(entry: Entry, asked_for: Collection[EngineName] | None) -> Standing:
    """How an engine stands, if these are the engines that params.yaml asks for; without them
    nothing is retired.
    """
    if asked_for is not None and entry.identity not in asked_for:
        return RETIRED
    if isinstance(entry, DamagedEngine):
        return Standing("damaged", entry.reason, entry.error.cure)
    check, changes = entry.gpu_check, _changes(entry)
    if changes:
        return _outdated(entry, changes)
    if check.report:
        return Standing("validated")
    return Standing("candidate", check.reason, _VALIDATE if check.reason else "")


def build_seconds(entry: Entry) -> float | None:
    """How long this very engine took to build; None where the newest build is another one."""
    if isinstance(entry, DamagedEngine):
        return None
    folder = build_folder(entry.model, entry.target, entry.precision)
    with suppress(DamagedFileError):
        if read_record(folder / "record.json", BuildRecord) == entry.manifest.steps.build:
            return read_record(folder / "measured.json", Measured).seconds
    return None


def _outdated(engine: Engine, changes: Sequence[str]) -> Standing:
    """Why the newest is not the one that is registered."""
    more = len(changes) - _NAMED_CHANGES
    others = f" and {more} more" if more > 0 else ""
    newest = f"the newest ({', '.join(changes[:_NAMED_CHANGES])}{others})"
    failed = _newest_refusals(engine.identity)
    if failed:
        return Standing("outdated", f"the last that passed; {newest} failed: {'; '.join(failed)}")
    return Standing("outdated", f"{newest} is not registered yet", _BUILD)


def _changes(engine: Engine) -> list[str]:
    """How the newest recipes differ from the engine's; if none does, the steps with new results."""
    recipes: list[str] = []
    results: list[str] = []
    for stage, old in made_of(engine):
        with suppress(DamagedFileError):  # a missing or damaged file says nothing
            newest = read_record(stage.recipe, type(old.recipe))
            recipes += differences(readable(old.recipe), readable(newest))
        with suppress(DamagedFileError):
            if stage.step != "register" and read_record(record_file(stage), type(old)) != old:
                results.append(stage.step)
    unchanged = [f"other results of {', '.join(results)}"] if results else []
    return list(dict.fromkeys(recipes)) or unchanged


def made_of(engine: Engine) -> list[tuple[Stage, StepRecord[Any]]]:
    """The steps that made an engine, each with its record of then."""
    (model, target, precision), steps = astuple(engine.identity), engine.manifest.steps
    calibration = steps.quantize.calibration
    return [
        (Stage("export", model), steps.export),
        (Stage("simplify", model), steps.simplify),
        *([(Stage("calibrate", model), calibration)] if calibration else []),
        (Stage("quantize", model, precision=precision), steps.quantize),
        (Stage("validate", model, precision=precision), steps.validation),
        (Stage("build", model, target, precision), steps.build),
        (Stage("register", model, target, precision), steps.registration),
    ]


def readable(recipe: Recipe[Any]) -> Mapping[str, Any]:
    """A recipe with a build's profile as one text instead of three lists."""
    plain = recipe.to_json()
    if isinstance(recipe.parameters, BuildParameters):
        plain["parameters"]["profile"] = (
            profile.text if (profile := recipe.parameters.profile) else None
        )
    return plain


def _newest_refusals(name: EngineName) -> list[str]:
    """Why the newest graph fails the gate; empty if it passes, or was not validated here."""
    path = model_folder(name.model, name.precision) / "validation.json"
    register = Stage("register", name.model, name.target, name.precision)
    with suppress(DamagedFileError):
        tolerance = read_record(register.recipe, Recipe[ToleranceRecord]).parameters
        return refusals(read_record(path, ValidationRecord).report, tolerance)
    return []
