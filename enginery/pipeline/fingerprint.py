"""The fingerprint: params.yaml checked against what this machine and its toolchains are, and the
recipe of every stage written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from enginery import runtimes
from enginery.errors import (
    ConfigError,
    EngineryError,
    ExcludedTargetError,
    TargetLostError,
    ToolchainError,
)
from enginery.pipeline.project import Project
from enginery.pipeline.recipes import recipe, write_recipes
from enginery.pipeline.step import Step, load_step
from enginery.pipeline.workplace import save_workplace, was_buildable
from enginery.project.inputs import check_plain
from enginery.project.params import PARAMS_FILE, Spec
from enginery.project.paths import WORKPLACE
from enginery.project.stage import Stage
from enginery.project.target import Target
from enginery.toolchain.selection import Choice, Toolchains

NAME = "fingerprint"
T = TypeVar("T")


def fingerprint(
    spec: Spec,
    stages: Iterable[Stage],
    targets: Collection[str] | None = None,
    earlier: Mapping[Stage, tuple[Stage, ...]] | None = None,
    toolchains: Toolchains | None = None,
) -> dict[str, EngineryError]:
    """Write the recipe of every stage for this machine, and how this machine does the work.

    Returns the targets that cannot be built here, each with the reason: Elsewhere if it is for
    another machine, Lost if this machine could build it, ToolchainError if its toolchain is broken.
    `earlier` are the stages before each. Where `targets` are given, only their toolchains are
    asked, and the recipes of the rest stay as they are. `toolchains` may have answered already.

    Raises:
        ConfigError: params.yaml asks what a target cannot do; all such mistakes at once.
    """
    excluded: dict[str, EngineryError] = {}
    asked = [name for name in spec.used_targets() if targets is None or name in targets]
    stages = list(stages)
    with ThreadPoolExecutor(1) as beside:  # their modules load while the toolchains answer
        steps = beside.submit(_load_steps, stages)
        choices = _ask(asked, (toolchains or Toolchains(spec)).choose, excluded)
    wrong = [
        mistake
        for name, choice in choices.items()
        for mistake in runtimes.find(choice.info.runtime).mistakes(
            name, spec.targets[name], choice.info
        )
    ]
    if wrong:
        raise ConfigError(str(PARAMS_FILE), wrong)
    built_for = _ask(
        choices, lambda name: _runtime(name, spec.targets[name], choices[name]), excluded
    )
    for name, error in excluded.items():
        if isinstance(error, ExcludedTargetError) and was_buildable(spec, name):
            excluded[name] = _lost(name, error)
    _write(Project(spec, built_for, earlier or {}), stages, steps.result())
    save_workplace(spec, {name: choices[name] for name in built_for})
    return excluded


def check_inputs(spec: Spec) -> None:
    """Make sure that what params.yaml names are plain files and folders: DVC itself would wait for
    ever on a pipe, and not look behind a link.
    """
    models = [path for model in spec.models.values() for path in (model.source, model.validation)]
    calibration = [settings.calibration for settings in spec.int8.values()]
    for path in dict.fromkeys([*models, *calibration]):
        check_plain(Path(path))


def _load_steps(stages: Iterable[Stage]) -> dict[str, Step[Any]]:
    return {name: load_step(name) for name in sorted({stage.step for stage in stages} - {NAME})}


def _write(project: Project, stages: Collection[Stage], steps: Mapping[str, Step[Any]]) -> None:
    buildable = [stage for stage in stages if not stage.target or stage.target in project.runtimes]
    recipes = {
        stage: recipe(steps[stage.step], project, stage)
        for stage in buildable
        if stage.step in steps
    }
    write_recipes(recipes, stages)


def _ask(
    names: Iterable[str], ask: Callable[[str], T], excluded: dict[str, EngineryError]
) -> dict[str, T]:
    """The answer for each target; those that cannot be built here join `excluded`."""
    answers = {}
    for name in names:
        try:
            answers[name] = ask(name)
        except (ExcludedTargetError, ToolchainError) as error:
            excluded[name] = error
    return answers


def _lost(name: str, error: ExcludedTargetError) -> TargetLostError:
    cure = (
        "Look at nvidia-smi and at its toolchain's path; if it has gone for good, "
        f"delete {WORKPLACE}"
    )
    return TargetLostError(name, f"this machine could build it at its last run: {error.why}", cure)


def _runtime(name: str, target: Target, choice: Choice) -> dict[str, Any]:
    """What a target's builds depend on: runtime, version, platform, and what it is for."""
    info = choice.info
    return {
        "runtime": info.runtime,
        "runtime_version": info.version,
        "platform": info.platform,
        **runtimes.find(info.runtime).builds_for(name, target, choice),
    }
