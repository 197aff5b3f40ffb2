"""`enginery list`: the registered engines."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from enginery.cli import Command, new_app

app = new_app()


@app.command(cls=Command)
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> int:
    """The registered engines and how they stand."""
    from enginery.report.listing import list_engines

    listing = list_engines()
    if as_json:
        print(json.dumps(listing.summaries, indent=2))
    elif not listing.rows:
        print("No engine is registered yet: `enginery build` makes them.")
    else:
        from enginery.report.console import print_table

        print_table("Registered engines", listing.rows)
        for note in listing.notes:
            print(note)
    return 0
