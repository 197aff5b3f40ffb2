"""The commands of `enginery`, one a module.

A module is called as its command and holds `app`, a Typer application of one command, or of
several actions. It is imported only when its command or the overview asks for it, so it imports
nothing heavy at its top.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from enginery.cli.completion import complete_engine, complete_model
from enginery.errors import EngineryError
from enginery.system.extras import missing_extra
from enginery.system.files import is_full

EngineArgument = Annotated[
    str,
    typer.Argument(
        metavar="ENGINE",
        help="model/target/precision, or a part of it.",
        autocompletion=complete_engine,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Its name in params.yaml.", autocompletion=complete_model),
]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="URL",
        help="The team's registry (default: registry in params.yaml, else the remote origin).",
    ),
]
StageOption = Annotated[str, typer.Option(help="In which stage it serves.")]
ReasonOption = Annotated[str, typer.Option(help="Why; the history keeps it.")]
SETTINGS = {"help_option_names": ["-h", "--help"]}


class Group(TyperGroup):
    """Commands with their whole summaries, where Typer cuts them off."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return _quick(super().get_params(ctx))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands in the help."""
        self.write(ctx, formatter, "Actions", self.list_commands(ctx))

    def write(self, ctx: Any, formatter: Any, title: str, names: Sequence[str]) -> None:
        """Some commands below a title, their summaries in one column with all others."""
        width = max(map(len, self.list_commands(ctx)))
        with formatter.section(title):
            formatter.write_dl([(f"{name:<{width}}", self._summary(ctx, name)) for name in names])

    def _summary(self, ctx: Any, name: str) -> str:
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit=200) if command else ""


class Command(TyperCommand):
    """A command whose function returns its exit code; errors become one line and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return _quick(super().get_params(ctx))

    def invoke(self, ctx: Any) -> None:
        """Run it, and end with its exit code."""
        raise typer.Exit(exit_code(lambda: self._run(ctx)))

    def _run(self, ctx: Any) -> int:
        from enginery.project.loading import find_modules_here
        from enginery.system.home import ensure_home
        from enginery.system.processes import interrupt_on_sigterm

        interrupt_on_sigterm()
        find_modules_here()
        if note := ensure_home():
            print(note, file=sys.stderr)
        return int(super().invoke(ctx))


def _quick(parameters: list[Any]) -> list[Any]:
    """Flags that are off unless given: of `--help`, which is None, Typer asks pydantic what that
    means, and to import it takes longer than most commands.
    """
    for parameter in parameters:
        if getattr(parameter, "is_bool_flag", False) and parameter.default is None:
            parameter.default = False
    return parameters


def new_app(text: str = "") -> typer.Typer:
    """An application for one command; with `text`, for several actions, as `toolchain add`."""
    # Plain help: to import Rich takes as long as all the rest of `--help`.
    return typer.Typer(
        cls=Group,
        help=text or None,
        add_completion=False,
        context_settings=SETTINGS,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=bool(text),
    )


def exit_code(run: Callable[[], int]) -> int:
    """What a command returns; 1 with one line for an error, 130 when it is interrupted."""
    try:
        return run()
    except EngineryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        if (extra := missing_extra(error)) is None:
            raise
        print(f"error: {extra}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the next run goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        cure = "Free some space there" if is_full(error) else "Correct the path or its rights"
        print(f"error: {error.filename}: {error.strerror}. {cure}, then run again", file=sys.stderr)
        return 1
