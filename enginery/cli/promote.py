"""`enginery promote`: a published version of an engine serves in a stage from now on."""

from __future__ import annotations

from typing import Annotated

import typer

from enginery.cli import (
    Command,
    EngineArgument,
    ReasonOption,
    RegistryOption,
    StageOption,
    new_app,
)

app = new_app()


@app.command(cls=Command)
def promote(
    engine: EngineArgument,
    stage: StageOption = "production",
    version: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Which version (default: the newest).")
    ] = None,
    reason: ReasonOption = "",
    unvalidated: Annotated[
        bool, typer.Option("--unvalidated", help="Even if it never ran on its own GPU.")
    ] = False,
    registry: RegistryOption = None,
) -> int:
    """Let a published engine serve in a stage."""
    from enginery.actions import stages
    from enginery.errors import EngineryError
    from enginery.project.load import team_settings

    if team_settings(registry).approval:
        cure = f"Run the deployment: prefect deployment run promote/promote --param engine={engine}"
        raise EngineryError("params.yaml asks for an approval (registry.approval)", cure)
    opened, versions = stages.open_published(registry, engine)
    promoted = stages.promote(opened, versions, version, stage, reason, unvalidated)
    print(f"{promoted.title} serves in {stage}")
    return 0
