"""`enginery init`: a new project; questions on a terminal for what no option says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.cli import add_command
from enginery.vision.tasks import TASKS

if TYPE_CHECKING:
    from enginery.project.adding import ModelRequest
    from enginery.project.init import InitRequest

PRECISIONS = ("fp32", "fp16", "int8")


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(commands, "init", _run, "write a new project into a folder")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: this one")
    parser.add_argument("--demo", action="store_true", help="with the demo's model, and no other")
    add_model_options(parser, required=False)
    text = "a GPU to build for, as rtx-ada, l4, orin, or NAME=8.9; more with commas or repeated"
    parser.add_argument("--target", action="append", default=[], metavar="NAME", help=text)
    text = "fp32, fp16, int8; more with commas or repeated (default: all that the data allows)"
    parser.add_argument("--precision", action="append", default=[], metavar="NAME", help=text)


def add_model_options(parser: argparse.ArgumentParser, required: bool) -> None:
    """The options that `init` and `add-model` share."""
    text = "Ultralytics' data.yaml, or a data set's folder"
    parser.add_argument("--data", type=Path, required=required, help=text)
    if not required:
        parser.add_argument("--model", type=Path, help="a .pt of Ultralytics, or an .onnx")
    parser.add_argument(
        "--task", choices=TASKS, help="default: as the model's name says, or detect"
    )
    parser.add_argument("--name", help="what params.yaml calls the model (default: as its file)")


def _run(args: argparse.Namespace) -> int:
    from enginery.project.init import init

    project = init(args.folder, _request(args))
    print(f"wrote a project into {project.root}")
    for note in project.notes:
        print(note)
    names = " ".join(sorted({name.partition("/")[0] for name in project.names}))
    print(f"To commit: git add {names}")
    print("Next: enginery build")
    return 0


def _request(args: argparse.Namespace) -> InitRequest:
    from enginery.errors import ConfigError
    from enginery.project.init import InitRequest
    from enginery.project.models import new_targets

    targets, precisions = _split(args.target), _split(args.precision)
    if args.demo:
        options = (args.model, args.data, args.task, args.name, *targets, *precisions)
        if any(option is not None for option in options):
            raise ConfigError("options", ["--demo has a model and targets: give it alone"])
        return InitRequest(None)
    unknown = [f"--precision {name}: unknown" for name in precisions if name not in PRECISIONS]
    if unknown:
        raise ConfigError("options", unknown)
    request = _model(args)
    targets = targets or _split([_ask("target", "GPUs to build for", "rtx-ada")])
    return InitRequest(request, new_targets(targets), _in_order(precisions))


def _model(args: argparse.Namespace) -> ModelRequest:
    from enginery.errors import EngineryError
    from enginery.project.adding import ModelRequest
    from enginery.project.models import guessed_task

    missing = [f"--{key}" for key in ("model", "data", "target") if not getattr(args, key)]
    if missing and not sys.stdin.isatty():
        cure = "Give them, or --demo for the demo"
        raise EngineryError(f"{', '.join(missing)} must be given, where nobody can be asked", cure)
    model = args.model or Path(_ask("model", "Model (.pt or .onnx)"))
    data = args.data or Path(_ask("data", "Data set (data.yaml or a folder)"))
    task = args.task
    if missing and not task:
        task = _ask("task", f"Task ({', '.join(TASKS)})", guessed_task(model.stem))
    return ModelRequest(model, data, task, args.name)


def _ask(option: str, question: str, default: str = "") -> str:
    shown = f" [{default}]" if default else ""
    while True:
        if answer := input(f"{question}{shown}: ").strip() or default:
            return answer
        print(f"needed; Ctrl-C stops (or give --{option})")


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _in_order(precisions: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in PRECISIONS if name in precisions)
