"""`enginery list`: the registered engines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, new_app

if TYPE_CHECKING:
    from enginery.project.engine_name import EngineName

app = new_app()


@app.command(cls=Command)
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """The registered engines and how they stand."""
    from enginery.registry.store import entries
    from enginery.report.display import print_table
    from enginery.report.tables import engine_notes, engine_rows, listed

    registered = entries()
    engines = listed(registered, known_engines() if registered else None)
    if as_json:
        print(json.dumps([engine.summary() for engine in engines], indent=2))
    elif engines:
        print_table("Registered engines", engine_rows(engines))
        for note in engine_notes(engines):
            print(note)
    else:
        print("No engine is registered yet: `enginery build` makes them.")
    return 0


def known_engines() -> set[EngineName] | None:
    """What params.yaml asks for; None if it has mistakes: looking at engines must always work."""
    from enginery.errors import ConfigError
    from enginery.project.load import load_spec

    try:
        return set(load_spec().engines())
    except ConfigError as error:
        print(f"Whether engines are retired cannot be told: {error}", file=sys.stderr)
        return None
