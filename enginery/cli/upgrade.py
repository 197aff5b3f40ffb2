"""`enginery upgrade`: bring a project's own files to the installed version."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from enginery.cli import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    text = "bring this project's files to the installed version; yours are kept"
    parser = add_command(commands, "upgrade", _run, text)
    text = "only say what would happen"
    parser.add_argument("--dry-run", action="store_true", help=text)


def _run(args: argparse.Namespace) -> int:
    from enginery import __version__
    from enginery.project.upgrade import upgrade

    done = upgrade(Path(), args.dry_run)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for change in done.changes:
        print(f"{change}\n{change.diff}".rstrip("\n"))
    way = f"from {done.before} to {__version__}"
    if args.dry_run:
        print(f"{len(done.changes)} files would change or be kept {way}; nothing was written")
    elif done.changes:
        print(f"upgraded {way}. Look at it with `git diff`, then commit it")
    else:
        print(f"nothing to do {way}")
    return 0
