"""`enginery publish`: this machine's new engines to the team's registry."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.cli.completion import complete_engine

app = new_app()


@app.command(cls=Command)
def publish(
    engines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ENGINE]...",
            help="model/target/precision, or a part of it; all, if none is named.",
            autocompletion=complete_engine,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be published.")
    ] = False,
) -> int:
    """Put this machine's new engines into the team's registry."""
    from enginery.actions.publish import propose
    from enginery.project.load import load_spec
    from enginery.registries import open_registry
    from enginery.registry.store import entries, find

    logging.getLogger("dvc").setLevel(logging.ERROR)
    spec = load_spec()
    registry = open_registry(spec.registry)
    if not (registered := entries()):
        print("No engine is registered here yet: `enginery build` makes them.")
        return 0
    names = [find(name).identity for name in engines or []]
    proposal = propose(spec, registry, registered, names)
    for name, why in proposal.left_out.items():
        print(f"not published: {name}, {why}", file=sys.stderr)
    if dry_run:
        for each in proposal.new:
            print(f"would publish {each.contents.name} ({each.contents.state})")
    added = [] if dry_run or not proposal.new else registry.publish(proposal.new)
    for engine in added:
        print(f"published {engine.title} ({engine.state})")
    count = len(proposal.new) if dry_run else len(added)
    verb = "would be published to" if dry_run else "published to"
    print(f"{count} new {verb} {registry.location}, {proposal.published} were there already")
    return 0
