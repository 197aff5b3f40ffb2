"""`enginery diff`: how two registered engines differ."""

from __future__ import annotations

from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.cli.completion import complete_engine

app = new_app()
_HELP = "model/target/precision, or a part of it."


@app.command(cls=Command)
def diff(
    one: Annotated[
        str, typer.Argument(metavar="ENGINE", help=_HELP, autocompletion=complete_engine)
    ],
    other: Annotated[
        str, typer.Argument(metavar="OTHER", help=_HELP, autocompletion=complete_engine)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print an object, for programs.")] = False,
) -> int:
    """How two engines differ: in what made them, and in what they do."""
    from enginery.registry.store import find
    from enginery.report.console import print_page
    from enginery.report.engine_difference import compare
    from enginery.system.files import dumps

    difference = compare(find(one), find(other))
    if as_json:
        print(dumps(difference.to_json()), end="")
        return 0
    same = "the same plan, byte by byte" if difference.same_plan else "different plans"
    print_page(f"{' -> '.join(difference.names)}: {same}", difference.sections())
    return 0
