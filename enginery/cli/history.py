"""`enginery history`: who let which version of an engine serve, when and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enginery.cli import Command, EngineArgument, RegistryOption, new_app

if TYPE_CHECKING:
    from enginery.registries.interface import StageEvent

app = new_app()


@app.command(cls=Command)
def history(
    engine: EngineArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
    registry: RegistryOption = None,
) -> int:
    """Who let which version of an engine serve, when and why."""
    from enginery.actions.stages import matching
    from enginery.project.load import team_settings
    from enginery.registries import open_registry
    from enginery.report.console import print_table

    opened = open_registry(team_settings(registry))
    names = sorted({each.name for each in matching(opened, engine)})
    rows = [_row(event) for event in opened.stage_events(names)]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print_table("Stages", rows)
    else:
        print(f"No version of {engine} ever served in a stage: `enginery promote` lets one serve.")
    return 0


def _row(event: StageEvent) -> dict[str, Any]:
    return {
        "when": f"{event.when:%Y-%m-%d %H:%M:%S} UTC",
        "engine": str(event.name),
        "version": event.version,
        "stage": event.stage if event.assigned else f"no longer {event.stage}",
        "who": event.who,
        "why": event.why,
    }
