"""`enginery add-model`: one more model in params.yaml, its file and its data with DVC."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.cli.completion import complete_precision, complete_target
from enginery.cli.init import ArchitectureOption, NameOption, TaskOption, precisions_of, split

app = new_app()


@app.command(cls=Command)
def add_model(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .pt of Ultralytics, a .pth of torchvision, or an .onnx."
        ),
    ],
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="A data.yaml, COCO's JSON, or a data set's folder.")
    ],
    task: TaskOption = None,
    name: NameOption = None,
    architecture: ArchitectureOption = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only for this target of params.yaml, or as `init` names it; may be repeated.",
            autocompletion=complete_target,
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only in this; may be repeated.", autocompletion=complete_precision
        ),
    ] = None,
) -> int:
    """Add a model to params.yaml, and its file and data to DVC."""
    from enginery.project.add_model import add_to_project
    from enginery.project.adding import ModelRequest

    request = ModelRequest(model, data, task, name, architecture)
    added = add_to_project(Path(), request, split(target), precisions_of(precision))
    for note in added.notes:
        print(note)
    print(f"To commit: git add {' '.join(added.names)}")
    print(f"Next: enginery build --model {added.name}")
    return 0
