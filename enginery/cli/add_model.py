"""`enginery add-model`: one more model in params.yaml, its file and its data with DVC."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from enginery.cli import add_command
from enginery.cli.init import add_model_options


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    text = "add a model to params.yaml, its file and its data to DVC"
    parser = add_command(commands, "add-model", _run, text)
    parser.add_argument("model", type=Path, help="a .pt of Ultralytics, or an .onnx")
    add_model_options(parser, required=True)


def _run(args: argparse.Namespace) -> int:
    from enginery.project.add_model import add_to_project
    from enginery.project.adding import ModelRequest

    request = ModelRequest(args.model, args.data, args.task, args.name)
    added = add_to_project(Path(), request)
    for note in added.notes:
        print(note)
    print(f"To commit: git add {' '.join(added.names)}")
    print(f"Next: enginery build --model {added.name}")
    return 0
