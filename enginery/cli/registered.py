"""`enginery list`, `show` and `prune`: all registered engines, one of them, and the retired."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from enginery.cli import add_command

if TYPE_CHECKING:
    from enginery.project.params import Matrix

Arguments = argparse.Namespace


def add(commands: Any) -> None:
    """Add the commands to the parser of `enginery`."""
    listing = add_command(commands, "list", _list, "the registered engines and how they stand")
    listing.add_argument("--json", action="store_true", help="an array of objects")
    show = add_command(
        commands, "show", _show, "an engine: what it is, from what, how checked, how fast"
    )
    show.add_argument("engine", help="model/target/precision, or a part of it")
    show.add_argument("--json", action="store_true", help="its whole manifest, for programs")
    prune = add_command(
        commands, "prune", _prune, "remove the engines that params.yaml no longer has"
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what it would remove")


def _list(args: Arguments) -> int:
    from enginery.registry.store import entries
    from enginery.report.display import print_table
    from enginery.report.tables import engine_notes, engine_rows, listed

    registered = entries()
    engines = listed(registered, known_matrix() if registered else None)
    if args.json:
        print(json.dumps([engine.summary() for engine in engines], indent=2))
    elif engines:
        print_table("Registered engines", engine_rows(engines))
        for note in engine_notes(engines):
            print(note)
    else:
        print("No engine is registered yet: `enginery build` makes them.")
    return 0


def _show(args: Arguments) -> int:
    from enginery.registry.store import find_entry
    from enginery.report.display import print_page
    from enginery.report.page import as_json, sections
    from enginery.report.tables import listed
    from enginery.system.files import dumps

    [engine] = listed([find_entry(args.engine)], known_matrix())
    if args.json:
        print(dumps(as_json(engine)), end="")
    else:
        print_page(f"{engine.entry.name}: {engine.standing.state}", sections(engine))
    return 0


def _prune(args: Arguments) -> int:
    from enginery.project.load import load_spec
    from enginery.registry.prune import remove, retired
    from enginery.system.checkout_lock import only_run

    matrix = load_spec().matrix  # a mistake in it must not make engines look retired
    with only_run():
        found = retired(matrix)
        for remains in found:
            if not args.dry_run:
                remove(remains)
            verb = "would remove" if args.dry_run else "removed"
            where = ", ".join(path.as_posix() for path in remains.paths)
            print(f"{verb} {remains.name}: {remains.megabytes:.1f} MB in {where}")
    print(_summary(len(found), sum(remains.megabytes for remains in found), args.dry_run))
    return 0


def _summary(count: int, megabytes: float, dry_run: bool) -> str:
    if not count:
        return "Nothing to remove: params.yaml has every engine."
    engines = f"{count} engine{'s' if count > 1 else ''}"
    done = "would be removed" if dry_run else "removed"
    again = "DVC's cache keeps its copies: named in params.yaml again, they are restored"
    return f"{engines} {done}, {megabytes:.1f} MB. {again}."


def known_matrix() -> Matrix | None:
    """What params.yaml asks for; None if it has mistakes: looking at engines must always work."""
    from enginery.errors import ConfigError
    from enginery.project.load import load_spec

    try:
        return load_spec().matrix
    except ConfigError as error:
        print(f"Whether engines are retired cannot be told: {error}", file=sys.stderr)
        return None
