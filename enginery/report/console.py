"""Tables and pages on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_table(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a table on standard output."""
    Console().print(table(title, rows))


def print_page(title: str, sections: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Print sections, each with its heading at the left of its lines, on standard output."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for heading, lines in sections:
        grid.add_row("", "")
        for index, line in enumerate(lines):
            grid.add_row("" if index else heading, Text(line))
    console = Console()
    console.print(Text(title, style="bold"))
    console.print(grid)


def table(title: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """Rows of equal keys as a table; numbers to the right."""
    rows = list(rows)
    result = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for key in rows[0] if rows else ():
        result.add_column(
            str(key),
            justify="right" if isinstance(rows[0][key], int | float) else "left",
            overflow="fold",
        )
    for row in rows:
        result.add_row(*(str(value) for value in row.values()))
    return result
