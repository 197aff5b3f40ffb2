"""`enginery rebuild`: an engine again, from its own recipe."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, EngineArgument, new_app
from enginery.errors import EngineryError

app = new_app()


@app.command(cls=Command)
def rebuild(
    engine: EngineArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fail unless it is the registered engine again.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the new plan.")] = None,
) -> int:
    """Build an engine again from its recipe, and compare bytes and kernels."""
    from enginery.actions.rebuild import rebuild as build_again
    from enginery.project.load import load_spec
    from enginery.registry.store import find

    if not verify and out is None:
        cure = "Give --verify to compare the new plan, --out FILE to keep it, or both"
        raise EngineryError("there is nothing to do with the new plan", cure)
    registered = find(engine)
    found = build_again(load_spec(), registered, out)
    print(f"{registered.name}: {found}")
    if verify and not found.passed:
        what = f"error: {registered.name} was not built again as it is"
        level_0 = registered.built.optimization_level == 0
        why = ": at optimization_level 0 TensorRT uses no timing cache" if level_0 else ""
        print(f"{what}{why}", file=sys.stderr)
        return 1
    return 0
