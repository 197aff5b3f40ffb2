"""`enginery prune`: remove the engines that params.yaml no longer has, or old published ones."""

from __future__ import annotations

from typing import Annotated

import typer

from enginery.cli import Command, RegistryOption, new_app

app = new_app()


@app.command(cls=Command)
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    published: Annotated[
        bool,
        typer.Option("--published", help="Old versions in the team's registry instead."),
    ] = False,
    keep: Annotated[
        int,
        typer.Option(min=1, help="With --published: how many versions of each engine stay."),
    ] = 3,
    registry: RegistryOption = None,
) -> int:
    """Remove the engines that params.yaml no longer has."""
    if published or registry:
        return _prune_published(registry, keep, dry_run)
    from enginery.project.load import load_spec
    from enginery.registry.prune import remove, retired
    from enginery.system.checkout_lock import checkout_lock

    asked_for = set(load_spec().engines())  # a mistake in it must not make engines look retired
    with checkout_lock():
        every = retired(asked_for)
        for engine in every:
            if not dry_run:
                remove(engine)
            verb = "would remove" if dry_run else "removed"
            where = ", ".join(path.as_posix() for path in engine.paths)
            print(f"{verb} {engine.name}: {engine.megabytes:.1f} MB in {where}")
    print(_summary(len(every), sum(engine.megabytes for engine in every), dry_run))
    return 0


def _summary(count: int, megabytes: float, dry_run: bool) -> str:
    if not count:
        return "Nothing to remove: params.yaml has every engine."
    engines = f"{count} engine{'s' if count > 1 else ''}"
    done = "would be removed" if dry_run else "removed"
    again = "DVC's cache keeps its copies: named in params.yaml again, they are restored"
    return f"{engines} {done}, {megabytes:.1f} MB. {again}."


def _prune_published(location: str | None, keep: int, dry_run: bool) -> int:
    from enginery.actions.stages import superfluous
    from enginery.project.load import team_settings
    from enginery.registries import open_registry

    registry = open_registry(team_settings(location))
    engines = superfluous(registry, keep)
    if engines and not dry_run:
        registry.remove(engines)
    for engine in engines:
        print(f"{'would remove' if dry_run else 'removed'} {engine.title}")
    done = "would be removed from" if dry_run else "removed from"
    kept = f"the newest {keep} of each engine stay, with what a stage serves or served before"
    print(f"{len(engines)} versions {done} {registry.location}: {kept}")
    return 0
