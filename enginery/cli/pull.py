"""`enginery pull`: the best engine of the team's registry for this host."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, RegistryOption, new_app
from enginery.cli.completion import complete_precision

app = new_app()


@app.command(cls=Command)
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Whose engine.")],
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, fp16 or int8.", autocompletion=complete_precision),
    ] = None,
    state: Annotated[
        str, typer.Option(help="candidate, validated, or a stage in which it serves.")
    ] = "production",
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to (default: engines/MODEL).")
    ] = None,
    then: Annotated[
        str, typer.Option(metavar="COMMAND", help="Run this in a shell once for each engine.")
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what fits and what does not; fetch nothing.")
    ] = False,
    registry: RegistryOption = None,
    allowed_signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take only what one of these signed (ssh-keygen's)."),
    ] = None,
    toolchain: Annotated[
        list[Path] | None,
        typer.Option(metavar="PYTHON", help="Look for TensorRT in this interpreter, too."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="The GPU's name, instead of looking.")
    ] = None,
    compute_capability: Annotated[
        str | None, typer.Option(metavar="X.Y", help="The GPU's, instead of looking.")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME==VERSION", help="Instead of looking: tensorrt==10.16.1.11, for example."
        ),
    ] = None,
    platform: Annotated[
        str | None, typer.Option(help="Instead of this host's: linux_aarch64, for example.")
    ] = None,
) -> int:
    """Fetch the best published engine for this host, and check it."""
    from enginery.actions.pull import best, choose, install
    from enginery.project.load import team_settings
    from enginery.registries import open_registry
    from enginery.report.console import print_table
    from enginery.toolchain.host import HostOptions, find_host

    logging.getLogger("dvc").setLevel(logging.ERROR)
    settings = team_settings(registry, allowed_signers)
    options = HostOptions(gpu, compute_capability, runtime or (), platform, toolchain or ())
    host, opened = find_host(options), open_registry(settings)
    verdicts = choose(opened, model, host, state, precision)
    if explain or verdicts[0].reasons:
        print(f"this host: {host}")
        print_table(f"Engines of {model}", [verdict.row for verdict in verdicts])
    engine = best(verdicts, host, state)
    if explain:
        print(f"would take {engine.title}")
        return 0
    pulled = install(opened, engine, out or Path("engines") / model, settings, then)
    news = "is new" if pulled.changed else "was here already"
    print(f"{pulled.folder}: {engine.title} ({engine.state}) {news}")
    return 0
