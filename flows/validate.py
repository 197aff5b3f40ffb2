"""The flow: run registered engines on this machine's GPU again, as after a new driver."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from enginery.orchestration import validation


@flow(name="validate", description="Run registered engines on this machine's GPU.")
def validate_engines(engines: list[str] | None = None, share: bool = False) -> State[Any]:
    """Validate some engines, or all that run on this machine's GPU; with `share`, publish their
    reports.
    """
    outcomes = [validation.validate(engine) for engine in validation.choose(engines)]
    published = validation.publish_reports(outcomes) if share else ""
    return validation.verdict(outcomes, published)
