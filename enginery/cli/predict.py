"""`enginery predict`: an engine's detections drawn into pictures, with what each part took."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from enginery.cli import Command, EngineArgument, new_app

app = new_app()


@app.command(cls=Command)
def predict(
    engine: EngineArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for the pictures.")] = Path("predictions"),
    confidence: Annotated[
        float | None,
        typer.Option(help="The least to show: 0.25, or what the engine's own NMS gives."),
    ] = None,
    iou: Annotated[float, typer.Option(help="The overlap from which two are one.")] = 0.7,
) -> int:
    """Run an engine on images: pictures of what it finds, and milliseconds."""
    from enginery.actions import predict as action
    from enginery.project.load import load_spec
    from enginery.registry.store import find

    request = action.PredictionRequest(tuple(images), out, confidence, iou)
    for line in action.predict(load_spec(), find(engine), request):
        print(line)
    return 0
