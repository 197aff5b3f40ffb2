"""How a registered engine stands today.

Nothing of it is stored: it follows from params.yaml and from what the steps left on disk.

- damaged: its manifest or plan is not whole
- retired: the matrix of params.yaml does not have it any more
- outdated: the last that passed; the steps have newer recipes or results
- validated, candidate: what checked it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any, Literal

from enginery.errors import DamagedFileError
from enginery.evaluation.reports import ToleranceRecord, refusals
from enginery.pipeline.staleness import differences, record_file
from enginery.project.params import Matrix
from enginery.project.paths import Step, build_folder, model_folder
from enginery.registry.manifest import BuildParameters, BuildRecord, EngineName, ValidationRecord
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
    "retired", "not in params.yaml's matrix any more", "`enginery prune` removes what is retired"
)


class Measured(Record):
    """What a build measured of itself."""

    seconds: NotNegative


def standing(entry: Entry, matrix: Matrix | None) -> Standing:
    """How an engine stands; without a matrix nothing is retired."""
    if matrix and not in_matrix(entry.identity, matrix):
        return RETIRED
    if isinstance(entry, DamagedEngine):
        return Standing("damaged", entry.reason, entry.error.cure)
    check, changes = entry.gpu_check, _changes(entry)
    if changes:
        return _outdated(entry, changes)
    if check.report:
        return Standing("validated")
    return Standing("candidate", check.reason, _VALIDATE if check.reason else "")


def in_matrix(name: EngineName, matrix: Matrix) -> bool:
    """Whether params.yaml asks for an engine."""
    return (
        name.model in matrix.models
        and name.target in matrix.targets
        and name.precision in matrix.precisions
    )


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
    for step, old in _made_of(engine):
        with suppress(DamagedFileError):  # a missing or damaged file says nothing
            newest = read_record(step.recipe, type(old.recipe))
            recipes += differences(_readable(old.recipe), _readable(newest))
        record = record_file(step)
        with suppress(DamagedFileError):
            if record and step.name != "register" and read_record(record, type(old)) != old:
                results.append(step.name)
    unchanged = [f"other results of {', '.join(results)}"] if results else []
    return list(dict.fromkeys(recipes)) or unchanged


def _made_of(engine: Engine) -> list[tuple[Step, StepRecord[Any]]]:
    """The steps that made an engine, each with its record of then."""
    (model, target, precision), steps = astuple(engine.identity), engine.manifest.steps
    calibration = steps.quantize.calibration
    return [
        (Step("export", model), steps.export),
        (Step("simplify", model), steps.simplify),
        *([(Step("calibrate", model, precision=precision), calibration)] if calibration else []),
        (Step("quantize", model, precision=precision), steps.quantize),
        (Step("validate", model, precision=precision), steps.validation),
        (Step("build", model, target, precision), steps.build),
        (Step("register", model, target, precision), steps.registration),
    ]


def _readable(recipe: Recipe[Any]) -> Mapping[str, Any]:
    """A recipe with a build's profile as one text instead of three lists."""
    plain = recipe.to_json()
    if isinstance(recipe.parameters, BuildParameters):
        plain["parameters"]["profile"] = recipe.parameters.profile.text
    return plain


def _newest_refusals(name: EngineName) -> list[str]:
    """Why the newest graph fails the gate; empty if it passes, or was not validated here."""
    path = model_folder(name.model, name.precision) / "validation.json"
    register = Step("register", name.model, name.target, name.precision)
    with suppress(DamagedFileError):
        tolerance = read_record(register.recipe, Recipe[ToleranceRecord]).parameters
        return refusals(read_record(path, ValidationRecord).report, tolerance)
    return []
