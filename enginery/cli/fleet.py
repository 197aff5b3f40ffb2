"""`enginery fleet`: every machine that reported to Prefect's server."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.system.extras import require

app = new_app()


@app.command(cls=Command)
def fleet(
    silent_after: Annotated[
        float, typer.Option(metavar="HOURS", min=0, help="When a machine counts as silent.")
    ] = 3.0,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as an HTML page, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """The machines of the fleet: what they are, how their engines stand, and who is silent."""
    require("scheduler")
    from enginery.fleet.page import write_page
    from enginery.fleet.table import is_silent, machine_rows, unbuilt
    from enginery.orchestration.fleet import machine_reports
    from enginery.report.console import print_table

    reports, now = machine_reports(), datetime.now(UTC)
    if as_json:
        print(json.dumps([report.model_dump(mode="json") for report in reports], indent=2))
    elif not reports:
        print("No machine has reported yet: `enginery watch` on each of them does.")
    else:
        print_table("The fleet (times are UTC)", machine_rows(reports, now, silent_after))
    if page:
        write_page(reports, now, silent_after, page)
    for name in unbuilt(reports):
        print(f"no machine builds {name}", file=sys.stderr)
    silent = [report.machine for report in reports if is_silent(report, now, silent_after)]
    for machine in silent:
        print(f"silent: {machine}", file=sys.stderr)
    return 1 if silent else 0
