"""The flow: every stage of dvc.yaml that is not up to date, one Prefect task each."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from enginery.orchestration import artifacts, fleet, run, sharing
from enginery.orchestration.preparation import Selection, prepare
from enginery.report import display as terminal
from enginery.system.checkout_lock import checkout_lock


@flow(
    name="engines",
    description="Build, validate and register every engine of params.yaml that is not up to date.",
)
def build_engines(
    models: list[str] | None = None,
    targets: list[str] | None = None,
    precisions: list[str] | None = None,
    jobs: int | None = None,
    share: bool = False,
) -> State[Any]:
    """Bring every engine up to date, or only those of some models, targets or precisions.

    `jobs` is how many stages run at once; by default as many as the machine has room for.
    With `share`, one machine at a time builds for a target, pushes and publishes.
    """
    selection = Selection(models or (), targets or (), precisions or ())
    with checkout_lock(), terminal.current as display:
        work = prepare(selection, jobs, display)
        run.write_recipes_of(work)
        with sharing.target_turns(work, share):
            run.restore_around(work)  # what other machines measured of the kernels
            run.work_through(work)
            run.restore_around(work)  # and what the builds measured now
            if share:
                sharing.share_builds(work)
        verdict = run.verdict(work)
        display.summary = verdict.message or ""  # known from here on, whatever the server does
        artifacts.publish_report(work)
        artifacts.publish_tables(work)
        artifacts.name_run(work)
    if share:
        fleet.report_end(targets)
    return verdict
