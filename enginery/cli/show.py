"""`enginery show`: one registered engine."""

from __future__ import annotations

from typing import Annotated

import typer

from enginery.cli import Command, EngineArgument, new_app

app = new_app()


@app.command(cls=Command)
def show(
    engine: EngineArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print its whole manifest, for programs.")
    ] = False,
) -> int:
    """An engine: what it is, from what, how checked, how fast."""
    from enginery.registry.store import find_entry
    from enginery.report import page
    from enginery.report.console import print_page
    from enginery.report.listing import known_engines
    from enginery.report.tables import listed
    from enginery.system.files import dumps

    [shown] = listed([find_entry(engine)], known_engines())
    if as_json:
        print(dumps(page.as_json(shown)), end="")
    else:
        print_page(f"{shown.entry.name}: {shown.standing.state}", page.sections(shown))
    return 0
