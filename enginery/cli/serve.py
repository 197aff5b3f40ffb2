"""`enginery serve`: the flow on a schedule, in this process."""

from __future__ import annotations

import argparse
import os
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(commands, "serve", _run, "run the flow on a schedule, in this process")
    parser.add_argument(
        "--cron", default="0 * * * *", help="when to look for changes (default: every hour)"
    )


def _run(args: argparse.Namespace) -> int:
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "300")
    from flows.engines import build_engines
    from prefect.client.schemas.schedules import CronSchedule

    from enginery.errors import EngineryError
    from enginery.orchestration.server import prefect_server
    from enginery.project.load import load_spec

    load_spec()  # a mistake is told now, not at the first run
    try:
        CronSchedule(cron=args.cron)
    except ValueError:
        cure = 'Give minute, hour, day, month and weekday, for example "0 * * * *": every hour'
        raise EngineryError(f"--cron {args.cron!r} is no schedule", cure) from None
    with prefect_server(schedules=True):
        build_engines.serve(name="scheduled", cron=args.cron, limit=1)
    return 0
