"""`enginery init`: a new project; questions on a terminal for what no option says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, new_app
from enginery.cli.completion import complete_precision

if TYPE_CHECKING:
    from enginery.project.init import InitRequest

app = new_app()
PRECISIONS = ("fp32", "fp16", "int8")
_TARGET_HELP = (
    "A GPU to build for: rtx-ada, l4, orin and others, or NAME=8.9; more with commas or repeated."
)
_PRECISION_HELP = "fp32, fp16, int8, with commas or repeated; by default all that the data allows."

DataOption = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="A data.yaml, COCO's JSON, or a data set's folder."),
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        help="detect, segment, pose, obb, classify, semantic, tensors; by default as the file says."
    ),
]
ArchitectureOption = Annotated[
    str | None,
    typer.Option(help="The network that weights of torchvision are of; by default as the file."),
]
NameOption = Annotated[
    str | None, typer.Option(help="What params.yaml calls the model; by default as its file.")
]


@dataclass(frozen=True)
class Answers:
    """What the options say; the rest is asked on a terminal."""

    model: Path | None
    data: Path | None
    task: str | None
    name: str | None
    architecture: str | None
    targets: tuple[str, ...]
    precisions: tuple[str, ...]

    def missing(self) -> list[str]:
        """The options that nothing can be made without."""
        needed = {"--model": self.model, "--data": self.data, "--target": self.targets}
        return [option for option, value in needed.items() if not value]


@app.command(cls=Command)
def init(
    folder: Annotated[Path, typer.Argument(help="Where; by default here.")] = Path(),
    demo: Annotated[bool, typer.Option("--demo", help="With the demo, alone.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .pt of Ultralytics, a .pth of torchvision, or an .onnx."
        ),
    ] = None,
    data: DataOption = None,
    task: TaskOption = None,
    name: NameOption = None,
    architecture: ArchitectureOption = None,
    target: Annotated[list[str] | None, typer.Option(help=_TARGET_HELP, metavar="NAME")] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help=_PRECISION_HELP, metavar="NAME", autocompletion=complete_precision),
    ] = None,
) -> int:
    """Write a new project into a folder."""
    from enginery.project.init import InitRequest, check_place
    from enginery.project.init import init as write_project

    check_place(folder)
    answers = Answers(
        model, data, task, name, architecture, split(target), precisions_of(precision)
    )
    _check(answers, demo)
    project = write_project(folder, InitRequest(None) if demo else _request(answers))
    print(f"wrote a project into {project.root}")
    for note in project.notes:
        print(note)
    if project.in_git:
        print(f"To commit: git add {' '.join(project.to_commit)}")
    print("Next: enginery build")
    return 0


def _check(answers: Answers, demo: bool) -> None:
    from enginery.errors import ConfigError, EngineryError

    if demo and answers != Answers(None, None, None, None, None, (), ()):
        raise ConfigError("options", ["--demo has a model and targets of its own: give it alone"])
    unknown = [name for name in answers.precisions if name not in PRECISIONS]
    if unknown:
        known = ", ".join(PRECISIONS)
        raise ConfigError(
            "options", [f"--precision {name}: not one of {known}" for name in unknown]
        )
    missing = answers.missing()
    if missing and not demo and not sys.stdin.isatty():
        verb = "is" if len(missing) == 1 else "are"
        cure = "Give them, or --demo for the demo; on a terminal you are asked"
        raise EngineryError(f"{', '.join(missing)} {verb} missing", cure)


def _request(answers: Answers) -> InitRequest:
    """What to make, from the options and a person's answers."""
    from enginery.project.adding import ModelRequest
    from enginery.project.init import InitRequest
    from enginery.project.models import guessed_task, new_targets
    from enginery.vision.tasks import TASKS

    asks = bool(answers.missing())
    model = answers.model or Path(_ask("Model (.pt, .pth or .onnx)"))
    data = answers.data or Path(_ask("Data set (data.yaml, or a folder)"))
    task = answers.task
    if asks and not task:
        task = _ask(f"Task ({', '.join(TASKS)})", guessed_task(model.stem))
    targets = answers.targets or split([_ask("GPUs to build for", "rtx-ada")])
    in_order = tuple(name for name in PRECISIONS if name in answers.precisions)
    return InitRequest(
        ModelRequest(model, data, task, answers.name, answers.architecture),
        new_targets(targets),
        in_order,
    )


def _ask(question: str, default: str = "") -> str:
    while True:
        shown = f" [{default}]" if default else ""
        if answer := input(f"{question}{shown}: ").strip() or default:
            return answer


def precisions_of(values: Sequence[str] | None) -> tuple[str, ...]:
    """The precisions that an option names, in their order.

    Raises:
        ConfigError: it names another.
    """
    from enginery.errors import ConfigError

    names, known = split(values), ", ".join(PRECISIONS)
    mistakes = [
        f"--precision {name}: not one of {known}" for name in names if name not in PRECISIONS
    ]
    if mistakes:
        raise ConfigError("options", mistakes)
    return tuple(name for name in PRECISIONS if name in names)


def split(values: Sequence[str] | None) -> tuple[str, ...]:
    """The names that an option has, repeated or with commas."""
    parts = (part.strip() for value in values or () for part in value.split(","))
    return tuple(filter(None, parts))
