"""`enginery diff`: how two engines differ, of this folder or of other commits."""

from __future__ import annotations

from typing import Annotated

import typer

from enginery.cli import Command, new_app
from enginery.cli.completion import complete_engine

app = new_app()


@app.command(cls=Command)
def diff(
    one: Annotated[
        str,
        typer.Argument(
            metavar="ENGINE",
            help="model/target/precision, or a part of it; of another commit with @REVISION.",
            autocompletion=complete_engine,
        ),
    ],
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER",
            help="The same; by default ENGINE as it is here.",
            autocompletion=complete_engine,
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object, for programs.")] = False,
) -> int:
    """How two engines differ: in what made them, and in what they do."""
    from enginery.actions.revisions import named_engine
    from enginery.report.console import print_page
    from enginery.report.engine_difference import compare
    from enginery.system.files import dumps

    with (
        named_engine(one) as (first, before),
        named_engine(other or _here(one)) as (second, after),
    ):
        difference = compare(before, after, (first, second))
    if as_json:
        print(dumps(difference.to_json()), end="")
        return 0
    same = "the same plan, byte by byte" if difference.same_plan else "different plans"
    print_page(f"{' -> '.join(difference.names)}: {same}", difference.sections())
    return 0


def _here(one: str) -> str:
    """What an engine of another commit is compared with by default."""
    from enginery.actions.revisions import AT
    from enginery.errors import EngineryError

    name, at, _ = one.partition(AT)
    if not at:
        what = f"there is nothing to compare {one} with"
        cure = f"Name a second engine, or a commit: `enginery diff {one}@HEAD~1`"
        raise EngineryError(what, cure)
    return name
