"""fingerprint: check params.yaml against what this machine and its toolchains are, and write every
step's recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

from enginery.errors import (
    ConfigError,
    EngineryError,
    ExcludedTargetError,
    TargetLostError,
    ToolchainError,
)
from enginery.pipeline.machine import had, remember
from enginery.pipeline.recipes import recipes, write_recipes
from enginery.project.inputs import check_plain
from enginery.project.params import PARAMS_FILE, Spec, Target, load_spec
from enginery.project.paths import MACHINE, Step, stage_mistakes, steps
from enginery.report.events import log
from enginery.toolchain.features import mistakes
from enginery.toolchain.selection import Choice, Toolchains, no_gpu
from tasks.command import run_step

Found = TypeVar("Found")


def fingerprint(targets: Collection[str] | None = None) -> dict[str, EngineryError]:
    """Write the recipe of every step for this machine, and what this machine is.

    Returns the targets that cannot be built here, each with the reason: ExcludedTargetError if
    it is for another machine, TargetLostError if this machine could build it, ToolchainError if its
    toolchain is broken.
    Where `targets` are given, only their toolchains are asked, and the recipes of the rest stay as
    they are.

    Raises:
        ConfigError: what params.yaml asks of a target is a mistake; all of them at once.
    """
    spec = load_spec()
    if wrong := list(stage_mistakes(spec)):
        raise ConfigError(str(PARAMS_FILE), wrong)
    excluded: dict[str, EngineryError] = {}
    wanted = [name for name in spec.matrix.targets if targets is None or name in targets]
    choices = _here(wanted, Toolchains(spec).choose, excluded)
    asked = [
        mistake
        for name, choice in choices.items()
        for mistake in mistakes(name, spec.targets[name], choice.info)
    ]
    if asked:
        raise ConfigError(str(PARAMS_FILE), asked)
    facts = _here(choices, lambda name: _facts(name, spec.targets[name], choices[name]), excluded)
    for name, error in excluded.items():
        if isinstance(error, ExcludedTargetError) and had(spec, name):
            cure = f"Look at nvidia-smi and at its toolchain's path; if it has gone for good, delete {MACHINE}"
            excluded[name] = TargetLostError(
                name, f"this machine could build it at its last run: {error.why}", cure
            )
    write_recipes(recipes(spec, lambda name: facts[name], facts), spec)
    remember(spec, {name: choices[name].info for name in facts})
    return excluded


def _here(
    names: Iterable[str], ask: Callable[[str], Found], excluded: dict[str, EngineryError]
) -> dict[str, Found]:
    """What is found of each target; those that cannot be built here join `excluded`."""
    found = {}
    for name in names:
        try:
            found[name] = ask(name)
        except (ExcludedTargetError, ToolchainError) as error:
            excluded[name] = error
    return found


def _facts(name: str, target: Target, choice: Choice) -> dict[str, Any]:
    info, wanted = choice.info, target.compute_capability
    facts = {"runtime": info.runtime, "runtime_version": info.version, "platform": info.platform}
    if info.runtime == "tensorrt":
        return {**facts, **_own_gpu(name, wanted, choice)}
    if wanted and wanted not in info.compute_capabilities:
        can = ", ".join(info.compute_capabilities)
        what = f"target {name}: {info.runtime} {info.version} cannot build for compute capability {wanted} on this machine"
        raise ToolchainError(what, f"It can build for {can}")
    return facts


def _own_gpu(name: str, wanted: str | None, choice: Choice) -> dict[str, Any]:
    """The GPU that a `tensorrt` target builds for.

    Its UUID is not part of it: another card of the same kind runs the same engine.
    """
    info = choice.info
    if not info.gpus:
        raise no_gpu(name, choice)
    gpu = info.gpus[0]
    if wanted and wanted != gpu["compute_capability"]:
        why = f"it is for compute capability {wanted}, and the GPU here, {gpu['gpu']}, has {gpu['compute_capability']}"
        raise ExcludedTargetError(
            name, why, "Run this on a machine with such a GPU, or correct the target in params.yaml"
        )
    typed = {} if "weak typing" in info.features else {"strongly_typed": True}
    return {**{key: gpu[key] for key in ("compute_capability", "gpu")}, **typed}


def _check_inputs(spec: Spec) -> None:
    models = [path for model in spec.models.values() for path in (model.source, model.validation)]
    for path in dict.fromkeys(
        [*models, *(settings.calibration for settings in spec.int8.values())]
    ):
        check_plain(Path(path))


def _stage(step: Step) -> None:
    """What DVC runs: it cannot leave out a stage, so every target must be one for this machine, and
    every input plain files.

    A broken toolchain fails the builds that need it: without their recipes, DVC does not begin
    them.
    """
    _check_inputs(load_spec())
    excluded = fingerprint()
    elsewhere = [
        error.what for error in excluded.values() if isinstance(error, ExcludedTargetError)
    ]
    if elsewhere:
        what = f"this machine cannot build every target: {'; '.join(elsewhere)}"
        raise EngineryError(
            what,
            "`enginery build` leaves these out; `dvc repro --single-item` makes the stages that you name",
        )
    for error in excluded.values():
        log(str(error), "error")
    for build in steps(load_spec()):
        if build.name == "build" and build.target in excluded:
            build.recipe.unlink(missing_ok=True)


if __name__ == "__main__":
    run_step("fingerprint", _stage)
