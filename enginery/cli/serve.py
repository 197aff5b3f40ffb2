"""`enginery serve`: the flow on a schedule, in this process."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.system.extras import require

app = new_app()


@app.command(cls=Command)
def serve(
    cron: Annotated[
        str, typer.Option(help="When to look for changes; by default every hour.")
    ] = "0 * * * *",
) -> int:
    """Run the flow on a schedule, in this process."""
    require("build")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")
    from enginery.orchestration.server import prefect_server
    from enginery.project.load import load_spec
    from enginery.project.loading import load_flow

    load_spec()  # a mistake is told now, not at the first run
    build_engines = load_flow()
    _check(cron)
    with prefect_server(schedules=True):
        build_engines(return_state=True)  # what changed while nobody looked
        build_engines.serve(name="scheduled", cron=cron, limit=1)
    return 0


def _check(cron: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    from enginery.errors import EngineryError

    try:
        CronSchedule(cron=cron)
    except ValueError:
        cure = 'Give minute, hour, day, month and weekday, for example "0 * * * *": every hour'
        raise EngineryError(f"--cron {cron!r} is no schedule", cure) from None
