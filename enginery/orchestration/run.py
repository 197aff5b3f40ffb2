"""A run: every stage that it asks for, each after those it needs, side by side where they do not.

What needs a failed stage is skipped, the others go on. Of a target whose toolchain or GPU is on
another machine, the stages end as Elsewhere: that machine makes them. Of a target whose toolchain
is broken, they fail.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from graphlib import TopologicalSorter
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from enginery.errors import EngineryError, is_elsewhere
from enginery.orchestration.preparation import Run
from enginery.pipeline.fingerprint import NAME as FINGERPRINT
from enginery.pipeline.fingerprint import fingerprint
from enginery.pipeline.graph import Node
from enginery.pipeline.staleness import explain
from enginery.project.paths import crash_log
from enginery.report.display import Outcome, skipped_for
from enginery.system import tracebacks

# Stages with the moment at which they began; None: the run is interrupted.
Ended = queue.SimpleQueue[tuple[Node, float] | None]
LEVELS = {"error": 40, "warning": 30, "info": 20, "debug": 10}


def write_recipes_of(run: Run) -> None:
    """The fingerprint: what this machine is, and the recipe of every stage."""
    for node in run.graph:
        if node.stage.step == FINGERPRINT:
            note(run, node, _fingerprint.with_options(task_run_name=node.title), quote(run))


def restore_around(run: Run) -> None:
    """What others have measured, before the builds, and what the builds measured, after them."""
    for node in run.graph:
        if node.around:
            note(run, node, *_work_of(run, node, _decided(run, node)))


def work_through(run: Run) -> None:
    """All other stages: as many at once as the machine has room for."""
    nodes = {
        node.address: node
        for node in run.graph
        if not node.around and node.address not in run.outcomes
    }
    order = TopologicalSorter(
        {address: [need for need in node.needs if need in nodes] for address, node in nodes.items()}
    )
    order.prepare()
    ended: Ended = queue.SimpleQueue()
    try:
        with _interrupts_into(ended):
            _work(run, nodes, order, ended)
    except BaseException:
        run.pipeline.stop()
        raise


def _work(run: Run, nodes: Mapping[str, Node], order: TopologicalSorter[str], ended: Ended) -> None:
    waiting: list[Node] = []
    futures: dict[str, PrefectFuture[Any]] = {}
    while order.is_active():
        waiting += [nodes[address] for address in order.get_ready()]
        while waiting and len(futures) < run.jobs:
            node = waiting.pop(0)
            futures[node.address] = _submit(run, node, ended)
        end = ended.get()
        if end is None:
            raise KeyboardInterrupt
        node, began = end
        future = futures.pop(node.address)
        future.wait()
        _ended(run, node, future.state, time.monotonic() - began)
        order.done(node.address)


@contextmanager
def _interrupts_into(ended: Ended) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM are an end like those of stages.

    An exception at any moment might be raised in the middle of Prefect, and be lost there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, lambda *_: ended.put(None))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _submit(run: Run, node: Node, ended: Ended) -> PrefectFuture[Any]:
    began = time.monotonic()
    decided = _decided(run, node)
    needed: list[State[Any]] = []  # Prefect begins nothing that waits for what failed
    if not decided:
        run.display.started(node.title)
        needed = [run.states[need] for need in node.needs if need in run.states]
    body, *arguments = _work_of(run, node, decided)
    future = body.submit(*arguments, wait_for=needed)
    future.add_done_callback(lambda _: ended.put((node, began)))
    submitted: PrefectFuture[Any] = future
    return submitted


def _work_of(run: Run, node: Node, decided: State[None] | None) -> tuple[Any, ...]:
    """Prefect's task of a stage, and its arguments."""
    body: Any = _end if decided else _stage
    arguments = (quote(decided),) if decided else (quote(run), quote(node))
    return (body.with_options(task_run_name=node.title), *arguments)


def note(run: Run, node: Node, body: Any, *arguments: Any) -> None:
    """Do a stage, or what is none of dvc.yaml's, in this thread."""
    began = time.monotonic()
    run.display.started(node.title)
    state = body(*arguments, return_state=True)
    _ended(run, node, state, time.monotonic() - began)


def _ended(run: Run, node: Node, state: State[Any], seconds: float) -> None:
    if not node.around:
        run.states[node.address] = state
    name = "Failed" if state.is_failed() or state.is_crashed() else state.name or "Completed"
    outcome = Outcome(node.title, name, state.message or "", seconds)
    run.outcomes[node.address] = outcome
    run.display.ended(outcome)


def _decided(run: Run, node: Node) -> State[None] | None:
    """How a stage ends that is not begun: its target is excluded, or what it needs has failed."""
    excluded = run.excluded.get(node.stage.target)
    if is_elsewhere(excluded):
        return Completed(name="Elsewhere", message=excluded.why)
    for need in node.needs:
        outcome = run.outcomes.get(need)
        if outcome and outcome.state in ("Failed", "Skipped"):
            failed = outcome.state == "Failed"
            reason = skipped_for(outcome.title) if failed else outcome.reason
            return State(type=StateType.CANCELLED, name="Skipped", message=reason)
    if excluded:
        return Failed(message=str(excluded))
    return _of_elsewhere(run, node)


def _of_elsewhere(run: Run, node: Node) -> State[None] | None:
    """A project's own stage may read what another machine makes: it waits until that is here."""
    outcomes = [run.outcomes[need] for need in node.needs if need in run.outcomes]
    away = [outcome for outcome in outcomes if outcome.state == "Elsewhere"]
    if away and run.pipeline.missing(node.address):
        message = f"{away[0].title} is for another machine, and its output is not here"
        return Completed(name="Elsewhere", message=message)
    return None


@task(name=FINGERPRINT, cache_policy=NO_CACHE, persist_result=False)
def _fingerprint(run: Run) -> State[None]:
    """What the machine and its toolchains are; in this process, since every run does it."""
    try:
        stages, earlier = run.whole.stages(), run.whole.before()
        excluded = fingerprint(run.spec, stages, run.targets, earlier, run.toolchains)
        if run.target_is_explicit and excluded:
            raise next(iter(excluded.values()))
    except Exception as error:
        return Failed(message=_cause(FINGERPRINT, FINGERPRINT, error))
    run.excluded.update(excluded)
    for name, reason in excluded.items():
        if is_elsewhere(reason):
            run.display.left_out(name, reason.why)
    return Completed(name="Completed", message="wrote the recipe of every stage for this machine")


@task(name="stage", cache_policy=NO_CACHE, persist_result=False)
def _end(decided: State[None]) -> State[None]:
    """Show in Prefect how a stage ends that is not begun."""
    # Made anew: Prefect drops an end that is older than the task's beginning, and shows it as
    # running.
    return State(type=decided.type, name=decided.name, message=decided.message)


@task(name="stage", cache_policy=NO_CACHE, persist_result=False)
def _stage(run: Run, node: Node) -> State[None]:
    """Ask DVC whether the stage is stale; reproduce it if so, from its caches
    where they have it.
    """
    logger = get_run_logger()
    try:
        reason = explain(node.stage, run.pipeline.stale(node.address))
        if not reason:
            return Completed(name="Cached", message="up to date")
        logger.info("%s: %s", node.title, reason)
        run.display.works(node.title, reason)

        def on_event(event: dict[str, object]) -> None:
            run.display.event(node.title, event)
            if event["event"] == "log":
                level = LEVELS.get(str(event.get("severity")), 20)
                logger.log(level, "%s", event["message"])

        outcome = run.pipeline.reproduce(node.address, on_event)  # type: ignore[arg-type]
    except Exception as error:
        cause = _cause(node.title, node.address, error)
        logger.error("%s", cause)
        return Failed(message=cause)
    return Completed(name=outcome.capitalize(), message=reason)


def _cause(title: str, address: str, error: Exception) -> str:
    """One line; of an error that nobody foresaw, with the file that holds its traceback."""
    if isinstance(error, EngineryError):
        return str(error)
    return tracebacks.explain(title, error, crash_log(address))


def failures(run: Run) -> Iterator[dict[str, str]]:
    """What failed or was skipped, and why."""
    for outcome in run.outcomes.values():
        if outcome.state in ("Failed", "Skipped"):
            yield {"step": outcome.title, "state": outcome.state, "why": outcome.reason}


def verdict(run: Run) -> State[None]:
    """How the whole run ended, with the number of stages in each state."""
    counts: dict[str, int] = {}
    for outcome in run.outcomes.values():
        counts[outcome.state] = counts.get(outcome.state, 0) + 1
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    if "Failed" in counts:
        return Failed(message=summary, data=None)
    if run.targets <= run.excluded.keys():
        what = "every target is for another machine, and nothing is built on this one"
        return Completed(message=f"{summary}: {what}")
    return Completed(message=summary)
