"""`enginery rollback`: the version that served before serves again."""

from __future__ import annotations

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
def rollback(
    engine: EngineArgument,
    stage: StageOption = "production",
    reason: ReasonOption = "",
    registry: RegistryOption = None,
) -> int:
    """Let the version that served before serve again."""
    from enginery.actions import stages

    opened, versions = stages.open_published(registry, engine)
    before, present = stages.roll_back(opened, versions, stage, reason)
    print(f"{before.title} serves in {stage} again, in the place of v{present}")
    return 0
