"""`enginery watch`: what changed on this machine, and what that makes stale."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, new_app
from enginery.cli.completion import complete_target
from enginery.errors import EngineryError

if TYPE_CHECKING:
    from enginery.fleet.machine import MachineReport

app = new_app()
TO_DO = 3
_WORDS = {
    "rebuild": "rebuild",
    "revalidate": "revalidate only",
    "publish": "publish",
}


@app.command(cls=Command)
def watch(
    once: Annotated[
        bool, typer.Option("--once", help="Look once, for cron; exit with 3 if there is work.")
    ] = False,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            metavar="NAME",
            help="Only engines for this target; may be given several times.",
            autocompletion=complete_target,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Tell what was told already, too: after a restart.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Bring this clone to what the team has pushed first.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="MINUTES", min=0.05, help="How often to look.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object, for programs.")] = False,
) -> int:
    """What must be rebuilt or revalidated here, told to Prefect's server if PREFECT_API_URL names
    one.
    """
    logging.getLogger("dvc").setLevel(logging.ERROR)
    if once:
        _update(update)
        return _look(targets or [], as_json, again)
    while True:
        try:
            _update(update)
            _look(targets or [], as_json, again)
            again = False
        except EngineryError as error:  # a run is at work, or the server is away: look again
            print(f"error: {error}", file=sys.stderr, flush=True)
        time.sleep(every * 60)


def _update(asked: bool) -> None:
    if asked:
        from enginery.fleet.checkout import use_checkout

        use_checkout(".")


def _look(targets: list[str], as_json: bool, again: bool) -> int:
    from enginery.fleet.watch import look

    report = look(targets)
    if as_json:
        print(json.dumps(report.model_dump(mode="json"), indent=2), flush=True)
    else:
        _say(report)
    if os.environ.get("PREFECT_API_URL"):
        from enginery.orchestration.fleet import tell

        for action in tell(report, again):
            print(f"told Prefect's server: {action}", file=sys.stderr, flush=True)
    if report.faults:
        return 1
    return TO_DO if report.has_work else 0


def _say(report: MachineReport) -> None:
    for engine in report.engines:
        if engine.action:
            print(f"{_WORDS[engine.action]} {engine.name}: {'; '.join(engine.reasons)}")
    for note in (*report.faults, *report.notes):
        print(note, file=sys.stderr)
    count = sum(engine.action is not None for engine in report.engines)
    total = len(report.engines)
    nothing = f"nothing to do for the {total} engines that {report.machine} builds"
    print(f"something to do for {count} of {total} engines" if count else nothing, flush=True)
