"""What Prefect's UI shows of a run beside its tasks: tables, and a name that says what it did."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from prefect.client.schemas.actions import ArtifactCreate
from prefect.context import FlowRunContext

from enginery.errors import DamagedFileError, EngineryError
from enginery.orchestration.preparation import Run
from enginery.orchestration.run import failures
from enginery.project.stage import Stage
from enginery.registry.store import entries
from enginery.report.last_run import LastRun, keep
from enginery.report.run_page import REPORT, write_report
from enginery.report.tables import (
    Listed,
    class_metric,
    class_rows,
    engine_rows,
    listed,
    outcomes_of,
    validation_rows,
)


def publish_tables(run: Run) -> None:
    """The engines, the validations, what failed, and what each class lost in a failed gate."""
    ended = [(node.stage, run.outcomes[node.address].state) for node in run.graph]
    losses = list(_lost_by_class(ended))
    for _, title, rows in losses:
        run.display.table(title, rows)
    engines = _registered(run)
    _publish("engines", engine_rows(engines, outcomes_of(ended)), "Registered engines")
    graphs = validation_rows(stage for stage, _ in ended)
    _publish("validation", graphs, "Graphs against the FP32 original")
    failed = list(failures(run))
    if failed:
        _publish("failures", failed, "What failed and why")
    for key, title, rows in losses:
        _publish(key, rows, title)


def publish_report(run: Run) -> None:
    """Write the report of this run, and tell where it is; without it a run is no worse."""
    ended = datetime.now().strftime("%Y-%m-%d %H:%M")
    last = LastRun(ended, run.display.summary, tuple(run.outcomes.values()))
    try:
        keep(last)
        write_report(_registered(run), last)
    except (EngineryError, OSError) as error:
        run.display.warn(f"the report was not written: {error}")
        return
    run.display.report = REPORT.as_posix()
    text = (
        f"On {platform.node()}: `{REPORT.resolve()}`. [Open it there]({REPORT.resolve().as_uri()})"
    )
    _create("report", "markdown", "The report of this run", text)


def _registered(run: Run) -> Sequence[Listed]:
    """What is registered now; it is read once, for the terminal's closing table, too."""
    if run.display.engines is None:
        run.display.engines = listed(entries(), run.spec.engines())
    return run.display.engines


def name_run(run: Run) -> None:
    """Call the flow run what it did: `built yolov8n fp16 for rtx-ada and 3 more`."""
    context = FlowRunContext.get()
    assert context and context.flow_run
    context.client.update_flow_run(context.flow_run.id, name=_name(run))


def _name(run: Run) -> str:
    failed = [outcome.title for outcome in run.outcomes.values() if outcome.state == "Failed"]
    if failed:
        return f"failed: {_some(failed)}"
    built = [
        outcome.title.removeprefix("build ")
        for outcome in run.outcomes.values()
        if outcome.state == "Completed" and outcome.title.startswith("build ")
    ]
    if built:
        return f"built {_some(built)}"
    restored = [o.title for o in run.outcomes.values() if o.state == "Restored"]
    return f"restored {_some(restored)}" if restored else "everything up to date"


def _some(titles: list[str]) -> str:
    return titles[0] + (f" and {len(titles) - 1} more" if len(titles) > 1 else "")


def _publish(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Show a table in Prefect's UI."""
    _create(key, "table", description, json.dumps(rows))


def _create(key: str, kind: str, description: str, data: str) -> None:
    """Make an artifact by the flow's own client."""
    context = FlowRunContext.get()
    assert context and context.flow_run
    artifact = ArtifactCreate(
        key=key, type=kind, description=description, data=data, flow_run_id=context.flow_run.id
    )
    context.client.create_artifact(artifact)


def _lost_by_class(
    ended: list[tuple[Stage, str]],
) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """For each graph that failed its gate, what every class lost: an artifact's key, a title,
    rows.
    """
    refused = {
        (stage.model, stage.precision): stage
        for stage, state in ended
        if stage.step == "register" and state == "Failed"
    }
    for (model, precision), stage in refused.items():
        with suppress(DamagedFileError):  # it was not the gate that failed
            title = f"{class_metric(stage)} of {model} {precision} by class"
            key = f"classes-{model}-{precision}".replace("_", "-")
            yield key, title, class_rows(stage)
