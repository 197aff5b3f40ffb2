"""The flow: let a published engine serve; a person approves it first, if params.yaml asks so."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from enginery.orchestration import promotion


@flow(name="promote", description="Let a published engine serve in a stage.")
def promote_engine(
    engine: str,
    version: int | None = None,
    stage: str = "production",
    reason: str = "",
    unvalidated: bool = False,
) -> State[Any]:
    """Promote a version, the newest if none is named, after it was approved."""
    proposed = promotion.propose_promotion(engine, version, stage)
    approval = promotion.approve(proposed)
    promoted = promotion.promote(proposed, approval, reason, unvalidated)
    return Completed(message=f"{promoted.title} serves in {stage}")
