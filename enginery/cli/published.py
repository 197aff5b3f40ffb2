"""`enginery published`: the engines of the team's registry."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from enginery.cli import Command, RegistryOption, new_app

app = new_app()


@app.command(cls=Command)
def published(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this model's engines.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
    registry: RegistryOption = None,
) -> int:
    """The engines of the team's registry, and which of them serve."""
    from enginery.project.load import team_settings
    from enginery.registries import open_registry
    from enginery.report.console import print_table
    from enginery.report.published import rows, summaries

    opened = open_registry(team_settings(registry))
    engines = opened.engines(None if model is None else {model})
    events = opened.stage_events(sorted({engine.name for engine in engines})) if engines else []
    if as_json:
        print(json.dumps(summaries(engines, events), indent=2))
    elif not engines:
        of = f" of {model}" if model else ""
        print(f"{opened.location} has no engine{of} yet: `enginery publish` adds this machine's.")
    else:
        print_table(f"Engines in {opened.location}", rows(engines, events))
    return 0
