"""Commands of `enginery` with options of their own: each module adds its parser and runs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from enginery.errors import EngineryError
from enginery.system.extras import missing_extra


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a command, or an action of one, with its help; `run` does it and returns the exit code."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=_sentence(text)
    )
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Any, name: str, text: str) -> Any:
    """Add a command that has actions, which `add_command` then adds to what this returns."""
    return commands.add_parser(name, help=text, description=_sentence(text)).add_subparsers(
        required=True, metavar="ACTION"
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
        cure = "Correct the path or its rights, then run again"
        print(f"error: {error.filename}: {error.strerror}. {cure}", file=sys.stderr)
        return 1


def _sentence(text: str) -> str:
    """With a capital first; names keep theirs."""
    return text[0].upper() + text[1:]
