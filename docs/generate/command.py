"""The reference of the command `enginery`, from its own definition."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from docs.generate.markdown import NOTE, table
from enginery.cli.main import EXIT_CODES, SECTIONS, app


def page() -> str:
    """docs/reference/command.md."""
    return "\n".join(_parts()) + NOTE


def commands() -> Iterator[tuple[str, Any]]:
    """Every command and action: its whole name and its definition."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="enginery")
    for names in SECTIONS.values():
        for name in names:
            command = root.get_command(context, name)  # type: ignore[attr-defined]
            yield f"enginery {name}", command
            for action in getattr(command, "commands", {}):
                yield f"enginery {name} {action}", command.commands[action]


def _parts() -> Iterator[str]:
    yield "# The command\n"
    yield "`enginery --help` and `enginery COMMAND --help` say the same in a terminal.\n"
    known = dict(commands())
    for title, names in SECTIONS.items():
        yield f"## {title}\n"
        for full, command in known.items():
            if full.split()[1] in names:
                yield from _section(full, command)
    yield "## Exit codes\n"
    yield table(("code", "when"), [(str(code), text) for code, text in EXIT_CODES.items()])
    yield "## The environment\n"
    yield (
        "`NO_COLOR` set to anything: no colours. Tables are as wide as the terminal, or as "
        "`COLUMNS` says. `PREFECT_API_URL` names a Prefect server to run with.\n"
    )


def _section(full: str, command: Any) -> Iterator[str]:
    yield f"### {full}\n\n{' '.join((command.help or '').split())}\n"
    if getattr(command, "commands", None):
        return
    context = typer.Context(command, info_name=full)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    yield f"```text\n{usage}\n```\n"
    rows = [
        _row(*parameter.get_help_record(context))
        for parameter in command.get_params(context)
        if parameter.name != "help"
    ]
    if rows:
        yield table(("argument or option", "what it says"), rows)


def _row(names: str, text: str) -> tuple[str, str]:
    """An option as its help shows it, without Python's names of types."""
    return f"`{re.sub(r' <.*', '', names)}`", text.replace("[", "(").replace("]", ")")
