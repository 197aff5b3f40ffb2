"""The fleet as a table: every machine that reported, and which of them are silent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from enginery.fleet.machine import MachineReport

SILENT_AFTER_H = 3.0  # three times the hour after which a machine should report again
_TIME = "%Y-%m-%d %H:%M"


def machine_rows(
    reports: Iterable[MachineReport], now: datetime, silent_after_h: float = SILENT_AFTER_H
) -> list[Mapping[str, str]]:
    """A row for each machine; times are UTC."""
    return [_row(report, now, silent_after_h) for report in reports]


def is_silent(report: MachineReport, now: datetime, silent_after_h: float) -> bool:
    """Whether a machine should have reported again."""
    return now - report.seen > timedelta(hours=silent_after_h)


def unbuilt(reports: Sequence[MachineReport]) -> list[str]:
    """The engines that machines leave to others, and that none builds."""
    built = {engine.name for report in reports for engine in report.engines}
    return sorted({name for report in reports for name in report.excluded} - built)


def work_of(report: MachineReport) -> list[str]:
    """What a machine has to do and why, a line each."""
    lines = [
        f"{engine.action} {engine.name}: {'; '.join(engine.reasons)}"
        for engine in report.engines
        if engine.action
    ]
    return [*report.faults, *lines, *report.notes] or ["nothing to do"]


def _row(report: MachineReport, now: datetime, silent_after_h: float) -> Mapping[str, str]:
    silent = is_silent(report, now, silent_after_h)
    return {
        "machine": report.machine,
        "pool": report.pool or "-",
        "GPU": _together(report.gpus),
        "TensorRT": _together(dict.fromkeys(report.runtimes.values())),
        "current": str(report.count("current")),
        "stale": str(report.count("stale")),
        "missing": str(report.count("missing")),
        "last build": report.last_build.strftime(_TIME) if report.last_build else "-",
        "seen": f"{'silent since ' if silent else ''}{report.seen.strftime(_TIME)}",
        "to do": _to_do(report),
    }


def _to_do(report: MachineReport) -> str:
    actions = [engine.action for engine in report.engines if engine.action]
    parts = [f"{action} {actions.count(action)}" for action in dict.fromkeys(actions)]
    return ", ".join([*report.faults, *parts]) or "-"


def _together(names: Collection[str] | Iterable[str]) -> str:
    return ", ".join(names) or "-"
