"""What a machine has told the fleet of its work: an event is sent only on change.

What is told and not done (its run failed, or was killed) is told again after an hour, then after
two, four, and so on, up to a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from enginery.errors import DamagedFileError
from enginery.fleet.machine import Action, EngineStatus, MachineReport
from enginery.registry.records import Count, Record, read_record
from enginery.system.files import write_json

TOLD = Path(".dvc/tmp/enginery-told.json")
_LONGEST_WAIT_H = 24


class Told(Record):
    """The work that was told last, when, and how often."""

    work: tuple[EngineStatus, ...] = ()
    when: datetime | None = None
    times: Count = 0

    def is_due(self, now: datetime) -> bool:
        """Whether it is to be told again."""
        wait = timedelta(hours=min(2 ** max(self.times - 1, 0), _LONGEST_WAIT_H))
        return self.when is None or now - self.when >= wait


def read_told() -> Told:
    """What this checkout told last; nothing where the file is missing or damaged."""
    try:
        return read_record(TOLD, Told)
    except DamagedFileError:
        return Told()


def news(report: MachineReport, told: Told, again: bool = False) -> Sequence[Action]:
    """The actions of which the fleet does not know yet; none if nothing has changed. With `again`,
    all of them.
    """
    known = () if again or told.is_due(report.seen) else told.work
    actions = [each.action for each in _work(report) if each.action and each not in known]
    return list(dict.fromkeys(actions))


def save_told(report: MachineReport, again: bool = False) -> None:
    """Remember that the fleet knows all of a report."""
    told, work = read_told(), _work(report)
    if told.work != work:
        told = Told(work=work, when=report.seen, times=1)
    elif again or told.is_due(report.seen):
        told = Told(work=work, when=report.seen, times=told.times + 1)
    write_json(TOLD, told.model_dump(mode="json"))


def _work(report: MachineReport) -> tuple[EngineStatus, ...]:
    return tuple(engine for engine in report.engines if engine.action)
