"""The command `enginery`: finds a command's module by its name, and imports no other."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer

from enginery import __version__
from enginery.cli import SETTINGS, Group

# What the overview shows, in this order: a new command is a module of this package and its name.
SECTIONS = {
    "Own a project": ("init", "add-model", "upgrade"),
    "Build engines": ("build", "status", "serve", "server"),
    "Look at engines": ("list", "show", "diff", "report", "inspect", "verify", "rebuild"),
    "Use engines": ("validate", "predict", "export", "push", "prune"),
    "Share engines": ("publish", "published", "pull", "promote", "rollback", "history"),
    "Run a fleet": ("watch", "fleet"),
    "INT8": ("calibration", "sensitivity"),
    "This machine": ("toolchain", "gpus"),
}
EXIT_CODES = {
    0: "All is well.",
    1: "Something failed, or is not as it should be: each failure is one line on standard error.",
    2: "The command line was not understood.",
    3: "Of `watch --once`: something is to be rebuilt, revalidated or published.",
    130: "It was interrupted. The next run goes on from there.",
}


class Commands(Group):
    """The commands of this package; each is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command, in the order of the overview."""
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name; None if there is none."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = import_module(f"enginery.cli.{cmd_name.replace('-', '_')}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The overview, by sections."""
        for title, names in SECTIONS.items():
            self.write(ctx, formatter, title, names)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.items()])


app = typer.Typer(
    cls=Commands,
    context_settings=SETTINGS,
    help="Trained models into TensorRT engines that a team can trust.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


def _say_version(asked_for: bool) -> None:
    if asked_for:
        print(f"enginery {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version."),
    ] = False,
) -> None:
    pass


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit code is one of `EXIT_CODES`."""
    try:
        typer.main.get_command(app)(args=argv, prog_name="enginery")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
