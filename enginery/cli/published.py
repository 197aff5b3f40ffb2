"""`enginery published`: the engines of the team's registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, RegistryOption, new_app

if TYPE_CHECKING:
    from enginery.project.engine_name import EngineName
    from enginery.registries.interface import Registry
    from enginery.registry.published import PublishedEngine

app = new_app()


@app.command(cls=Command)
def published(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="This model's engines, one by one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
    registry: RegistryOption = None,
) -> int:
    """The engines of the team's registry, and which of them serve."""
    from enginery.project.load import team_settings
    from enginery.registries import open_registry
    from enginery.report.console import print_table
    from enginery.report.published import engine_rows, model_rows, summaries

    opened = open_registry(team_settings(registry))
    engines, stages = _read(opened, model)
    if as_json:
        print(json.dumps(summaries(engines, stages), indent=2))
    elif not engines:
        of = f" of {model}" if model else ""
        print(f"{opened.location} has no engine{of} yet: `enginery publish` adds this machine's.")
    else:
        rows = engine_rows if model else model_rows
        of = f"of {model} " if model else ""
        print_table(f"Engines {of}in {opened.location}", rows(engines, stages))
    return 0


def _read(
    registry: Registry, model: str | None
) -> tuple[Sequence[PublishedEngine], Mapping[str, Mapping[EngineName, int]]]:
    """The engines of a model, or of all, and which of their versions serve."""
    from concurrent.futures import ThreadPoolExecutor

    from enginery.registries.interface import all_serving

    if model is None:
        with ThreadPoolExecutor(1) as beside:  # each asks the repository for itself
            stages = beside.submit(registry.stages)
            return registry.engines(), stages.result()
    engines = registry.engines({model})
    names = sorted({engine.name for engine in engines})
    return engines, all_serving(registry.stage_events(names)) if names else {}
