"""The flow: every step in its order, one Prefect task each; those that need a failed one are
skipped, the others go on.

Of a target whose toolchain or GPU is on another machine, the steps end as Elsewhere: that machine
makes them. Of a target whose toolchain is broken, they fail, and the other targets go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from enginery.errors import (
    ConfigError,
    DamagedFileError,
    EngineryError,
    ExcludedTargetError,
    TargetLostError,
)
from enginery.pipeline import Pipeline
from enginery.pipeline.staleness import explain
from enginery.project.params import Matrix, Spec, load_spec
from enginery.project.paths import Step, needs, steps
from enginery.registry.store import entries
from enginery.report import display as terminal
from enginery.report.display import Display, Outcome, skipped_for
from enginery.report.tables import (
    class_metric,
    class_rows,
    engine_rows,
    listed,
    outcomes_of,
    validation_rows,
)
from enginery.system.checkout_lock import only_run
from enginery.toolchain.selection import absent
from tasks.fingerprint import fingerprint

LEVELS = {"error": 40, "warning": 30, "info": 20, "debug": 10}


@dataclass
class Run:
    """One run of the flow: what it works with and how its steps ended."""

    pipeline: Pipeline
    matrix: Matrix
    display: Display
    targets: frozenset[str]
    insisted: bool  # on the target, by its name: then it must be for this machine
    excluded: dict[str, EngineryError] = field(
        default_factory=dict
    )  # targets of other machines, and broken ones
    outcomes: dict[Step, Outcome] = field(default_factory=dict)
    states: dict[Step, State[Any]] = field(default_factory=dict)


@flow(
    name="engines",
    description="Build, validate and register every engine of params.yaml that is not up to date.",
)
def build_engines(
    model: str | None = None, target: str | None = None, precision: str | None = None
) -> State[None]:
    """Bring every engine up to date, or only those of one model, target or precision."""
    with only_run(), terminal.current:
        spec = load_spec()
        gone = absent(spec)
        wanted = [
            step for step in select(spec, model, target, precision) if step.toolchain not in gone
        ]
        timings = [step for step in wanted if step.toolchain]
        targets = frozenset(step.target for step in wanted if step.target)
        run = Run(Pipeline(), spec.matrix, terminal.current, targets, insisted=bool(target))
        for step in (*wanted, *timings):  # restored before the builds, kept after them
            _run_step(run, step)
        verdict = _verdict(run)
        run.display.summary = (
            verdict.message or ""
        )  # known from here on, whatever Prefect's server does
        _publish_tables(run)
        return verdict


def select(
    spec: Spec, model: str | None, target: str | None, precision: str | None
) -> Iterator[Step]:
    """The steps that the wanted engines need, in order.

    Raises:
        ConfigError: a name that params.yaml's matrix does not have.
    """
    wanted = {"model": model, "target": target, "precision": precision}
    known = {
        "model": spec.matrix.models,
        "target": spec.matrix.targets,
        "precision": spec.matrix.precisions,
    }
    mistakes = [
        f"--{kind} {name}: not in params.yaml's matrix, which has {', '.join(known[kind])}"
        for kind, name in wanted.items()
        if name and name not in known[kind]
    ]
    if mistakes:
        raise ConfigError("what to build", mistakes)
    every = list(steps(spec))
    named = [
        step
        for step in every
        if all(not name or getattr(step, kind) in ("", name) for kind, name in wanted.items())
    ]
    for step in every:
        if step in named or any(needs(other, step) for other in named):
            yield step


def _run_step(run: Run, step: Step) -> None:
    began = time.monotonic()
    run.display.started(step.title)
    decided = _decided(run, step)
    state: State[Any]
    if decided:
        state = _end.with_options(task_run_name=step.title)(quote(decided), return_state=True)
    else:
        upstream = [state for other, state in run.states.items() if needs(step, other)]
        body = _fingerprint if step.name == "fingerprint" else _reproduce
        state = body.with_options(task_run_name=step.title)(
            quote(run), step, return_state=True, wait_for=upstream
        )
        run.states[step] = state
    name = state.name if not state.is_failed() else "Failed"
    run.outcomes[step] = Outcome(
        step.title, name or "Completed", state.message or "", time.monotonic() - began
    )
    run.display.ended(run.outcomes[step])


def _decided(run: Run, step: Step) -> State[None] | None:
    """How a step ends that is not begun: its target is excluded, or what it needs has failed."""
    excluded = run.excluded.get(step.target)
    if isinstance(excluded, ExcludedTargetError) and not isinstance(excluded, TargetLostError):
        return Completed(name="Elsewhere", message=excluded.why)
    for other, outcome in run.outcomes.items():
        if outcome.state in ("Failed", "Skipped") and needs(step, other):
            reason = skipped_for(other.title) if outcome.state == "Failed" else outcome.reason
            return State(type=StateType.CANCELLED, name="Skipped", message=reason)
    return Failed(message=str(excluded)) if excluded else None


@task(name="fingerprint", cache_policy=NO_CACHE, persist_result=False)
def _fingerprint(run: Run, step: Step) -> State[None]:
    """What the machine and its toolchains are; in this process, since every run does it and it is
    quick.
    """
    try:
        excluded = fingerprint(run.targets)
        if run.insisted and excluded:
            raise next(iter(excluded.values()))
    except EngineryError as error:
        return Failed(message=str(error))
    run.excluded.update(excluded)
    for name, reason in excluded.items():
        if isinstance(reason, ExcludedTargetError) and not isinstance(reason, TargetLostError):
            run.display.left_out(name, reason.why)
    return Completed(name="Completed", message="wrote the recipe of every step for this machine")


@task(name="step", cache_policy=NO_CACHE, persist_result=False)
def _end(decided: State[None]) -> State[None]:
    """Show in Prefect how a step ends that is not begun."""
    # Made anew: Prefect drops an end that is older than the task's beginning, and shows it as
    # running.
    return State(type=decided.type, name=decided.name, message=decided.message)


@task(name="step", cache_policy=NO_CACHE, persist_result=False)
def _reproduce(run: Run, step: Step) -> State[None]:
    """Ask DVC whether the step is stale; reproduce it if so, from its caches where they have it."""
    logger = get_run_logger()
    try:
        reason = explain(step, run.pipeline.stale(step.address))
        if not reason:
            return Completed(name="Cached", message="up to date")
        logger.info("%s: %s", step.title, reason)

        def on_event(event: dict[str, object]) -> None:
            run.display.event(step.title, event)
            if event["event"] == "log":
                logger.log(LEVELS.get(str(event.get("severity")), 20), "%s", event["message"])

        outcome = run.pipeline.reproduce(step.address, on_event)  # type: ignore[arg-type]
    except EngineryError as error:
        logger.error("%s", error)
        return Failed(message=str(error))
    return Completed(name=outcome.capitalize(), message=reason)


def _publish_tables(run: Run) -> None:
    outcomes = outcomes_of((step, outcome.state) for step, outcome in run.outcomes.items())
    losses = list(_lost_by_class(run))
    for _, title, rows in losses:
        run.display.table(title, rows)
    _publish("engines", engine_rows(listed(entries(), run.matrix), outcomes), "Registered engines")
    _publish("validation", validation_rows(run.outcomes), "Graphs against the FP32 original")
    failed = failures(run)
    if failed:
        _publish("failures", failed, "What failed and why")
    for key, title, rows in losses:
        _publish(key, rows, title)


def _publish(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table in Prefect's UI, by the flow's own client."""
    context = FlowRunContext.get()
    assert context and context.flow_run
    artifact = ArtifactCreate(
        key=key,
        type="table",
        description=description,
        data=json.dumps(rows),
        flow_run_id=context.flow_run.id,
    )
    context.client.create_artifact(artifact)


def _lost_by_class(run: Run) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """For each graph that failed its gate, what every class lost: an artifact's key, a title, rows."""
    failed = [
        step
        for step, outcome in run.outcomes.items()
        if step.name == "register" and outcome.state == "Failed"
    ]
    refused = {(step.model, step.precision): step for step in failed}
    for (model, precision), step in refused.items():
        with suppress(DamagedFileError):  # it was not the gate that failed
            rows, title = class_rows(step), f"{class_metric(step)} of {model} {precision} by class"
            yield f"classes-{model}-{precision}".replace("_", "-"), title, rows


def failures(run: Run) -> list[dict[str, str]]:
    """What failed or was skipped, and why."""
    return [
        {"step": outcome.title, "state": outcome.state, "why": outcome.reason}
        for outcome in run.outcomes.values()
        if outcome.state in ("Failed", "Skipped")
    ]


def _verdict(run: Run) -> State[None]:
    counts: dict[str, int] = {}
    for outcome in run.outcomes.values():
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    if "Failed" in counts:
        return Failed(message=summary, data=None)
    if run.targets <= run.excluded.keys():
        return Completed(
            message=f"{summary}: every target is for another machine, and nothing is built on this one"
        )
    return Completed(message=summary)
