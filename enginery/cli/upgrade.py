"""`enginery upgrade`: bring a project's own files to the installed version."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, new_app

app = new_app()


@app.command(cls=Command)
def upgrade(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
) -> int:
    """Bring this project's files to the installed version; what you changed is kept."""
    from enginery import __version__
    from enginery.project.upgrade import upgrade as upgrade_project

    done = upgrade_project(Path(), dry_run)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for change in done.changes:
        print(f"{change}\n{change.diff}".rstrip("\n"))
    way = f"from {done.before} to {__version__}"
    if not done.changes:
        print(f"nothing to do {way}")
    elif dry_run:
        print(f"nothing was written; without --dry-run, this is done {way}")
    else:
        print(f"upgraded {way}. Look at it with `git diff`, then commit it")
    return 0
