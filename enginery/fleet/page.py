"""The fleet as one HTML page: the table, and of each machine what it has to do and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from enginery.fleet.machine import MachineReport
from enginery.fleet.table import machine_rows, unbuilt, work_of
from enginery.report.document import Html, described, page, paragraph, table
from enginery.system.files import atomic_write


def write_page(
    reports: Sequence[MachineReport], now: datetime, silent_after_h: float, path: Path
) -> None:
    """Write the page."""
    rows = machine_rows(reports, now, silent_after_h)
    whole = table("Times are UTC", rows, numbers=("current", "stale", "missing"))
    lines = [f"no machine builds {name}" for name in unbuilt(reports)]
    alone = Html("".join(paragraph(line, "warn") for line in lines))
    parts = [
        ("machines", "Machines", Html(whole + alone)),
        (
            "work",
            "What is to be done",
            described((each.machine, work_of(each)) for each in reports),
        ),
    ]
    intro = paragraph(f"{len(reports)} machines, {now:%Y-%m-%d %H:%M} UTC", "muted")
    with atomic_write(path) as partial:
        partial.write_text(page("The fleet", parts, intro), encoding="utf-8")
