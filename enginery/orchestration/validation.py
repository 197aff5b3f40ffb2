"""Engines validated on their GPU as Prefect's tasks, one each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from enginery import runtimes
from enginery.actions.validate import validate_engine
from enginery.errors import EngineryError, is_elsewhere
from enginery.orchestration.sharing import publish_new
from enginery.project.load import load_spec
from enginery.registry.store import Engine, engines, find


@dataclass(frozen=True)
class ValidationOutcome:
    """How an engine did: `why` says what failed; `elsewhere`, that another machine has its GPU."""

    name: str
    why: str = ""
    elsewhere: bool = False


def choose(names: Sequence[str] | None) -> list[Engine]:
    """The engines of these names, or all that are made for one kind of GPU.

    Raises:
        EngineryError: there is none of a name.
    """
    if names:
        return [find(name) for name in names]
    return [each for each in engines() if runtimes.find(each.manifest.runtime).on_own_gpu]


def validate(engine: Engine) -> ValidationOutcome:
    """Run an engine on its GPU."""
    named = _validate.with_options(task_run_name=f"validate {engine.name}")
    state = named(quote(engine), return_state=True)
    elsewhere = state.name == "Elsewhere"
    failed = state.is_failed() or state.is_crashed()
    why = (state.message or "it failed") if failed else ""
    if why and engine.name not in why:
        why = f"{engine.name}: {why}"
    return ValidationOutcome(engine.name, why, elsewhere)


def publish_reports(outcomes: Sequence[ValidationOutcome]) -> str:
    """Publish the new reports, if there can be any; what came of it.

    Raises:
        EngineryError: the registry does not take them.
    """
    ran = [outcome for outcome in outcomes if not outcome.elsewhere]
    return publish_new(load_spec()) if ran else ""


def verdict(outcomes: Sequence[ValidationOutcome], published: str) -> State[Any]:
    """How the run ended."""
    failed = [outcome for outcome in outcomes if outcome.why]
    if failed:
        return Failed(message="; ".join(each.why for each in failed))
    count = sum(not outcome.elsewhere for outcome in outcomes)
    return Completed(message=", ".join(filter(None, [f"{count} engines passed", published])))


@task(name="validate", cache_policy=NO_CACHE, persist_result=False)
def _validate(engine: Engine) -> State[Any]:
    try:
        report = validate_engine(load_spec(), engine)
    except EngineryError as error:
        if is_elsewhere(error):
            return Completed(name="Elsewhere", message=error.why)
        return Failed(message=str(error))
    if report.failures:
        return Failed(message="; ".join(report.failures))
    return Completed(message=f"p50 {report.timing.gpu.p50:.2f} ms")
