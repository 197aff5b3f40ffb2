"""Commands of `enginery` with options of their own: each module adds its parser and runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Add a command, or an action of one, with its help; `run` does it and returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=_sentence(text))
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Any, name: str, text: str) -> Any:
    """Add a command that has actions, which `add_command` then adds to what this returns."""
    return commands.add_parser(name, help=text, description=_sentence(text)).add_subparsers(required=True, metavar="ACTION")


def _sentence(text: str) -> str:
    """With a capital first; names keep theirs."""
    return text[0].upper() + text[1:]
