"""`enginery report`: the report of this project as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, new_app

app = new_app()


@app.command(cls=Command)
def report(
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where; by default artifacts/report.html."),
    ] = None,
) -> int:
    """Write the report: engines, what failed, what the last run did and why."""
    import webbrowser

    from enginery.registry.store import entries
    from enginery.report.last_run import last_run
    from enginery.report.listing import known_engines
    from enginery.report.run_page import REPORT, write_report
    from enginery.report.tables import listed

    path = out or REPORT
    write_report(listed(entries(), known_engines()), last_run(), path)
    print(path.as_posix())
    if show and not webbrowser.open(path.resolve().as_uri()):
        print("no browser was found: open the file yourself")
    return 0
