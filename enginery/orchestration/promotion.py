"""Promotion as a flow: where params.yaml asks for it, a person approves in Prefect's UI first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput

from enginery.actions import stages
from enginery.errors import EngineryError
from enginery.project.load import team_settings
from enginery.registries import open_registry
from enginery.registries.interface import Registry
from enginery.registry.published import PublishedEngine

_WAIT_S = 7 * 24 * 3600
_LOOK_EVERY_S = 2


class Approval(RunInput):
    """What a person answers."""

    approved: bool
    by: str
    why: str = ""


@dataclass(frozen=True)
class Promotion:
    """One version of an engine, and the stage in which it shall serve."""

    registry: Registry
    versions: Sequence[PublishedEngine]
    engine: PublishedEngine
    stage: str
    needs_approval: bool


def propose_promotion(name: str, version: int | None, stage: str) -> Promotion:
    """Which version it is: the newest one of this moment, if none is named.

    Raises:
        EngineryError: there is none.
    """
    settings = team_settings(None)
    registry = open_registry(settings)
    versions = stages.find_published(registry, name)
    stages.check_stage(stage)
    engine = stages.find_version(versions, version)
    return Promotion(registry, versions, engine, stage, settings.approval)


def approve(promotion: Promotion) -> Approval | None:
    """Wait until somebody has answered, where params.yaml asks for that; None if it does not.

    Raises:
        EngineryError: the answer is no.
    """
    if not promotion.needs_approval:
        return None
    engine = promotion.engine
    text = (
        f"**{engine.title}** ({engine.state}) shall serve in **{promotion.stage}**.\n\n"
        f"Plan {engine.plan_sha256[:12]}, {engine.runtime} {engine.runtime_version}."
    )
    question = Approval.with_initial_data(description=text, approved=False)
    answer: Approval = pause_flow_run(
        wait_for_input=question, timeout=_WAIT_S, poll_interval=_LOOK_EVERY_S
    )
    if not answer.approved:
        why = f": {answer.why}" if answer.why else ""
        raise EngineryError(f"{answer.by} did not approve {engine.title}{why}")
    return answer


def promote(
    promotion: Promotion, approval: Approval | None, reason: str, unvalidated: bool
) -> PublishedEngine:
    """Let the version serve; the history names who approved it.

    Raises:
        EngineryError: it may not, or it serves already.
    """
    parts = [reason]
    if approval:
        parts += [f"approved by {approval.by}", approval.why]
    why = "; ".join(filter(None, parts))
    return stages.promote(
        promotion.registry,
        promotion.versions,
        promotion.engine.version,
        promotion.stage,
        why,
        unvalidated,
    )
