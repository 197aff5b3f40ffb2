"""Commands of `enginery` that have subcommands or options of their own: each module adds its parser and runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Add a command, or an action of one, with its help; `run` does it and returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text.capitalize())
    parser.set_defaults(run=run)
    return parser
