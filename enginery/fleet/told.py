"""What a machine has told the fleet of its work: an event is sent only on change.

A run that takes the work up forgets it, so that the next watch tells again what it did not do: it
may have failed, or been killed. What nobody takes up is told again after a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from enginery.errors import DamagedFileError
from enginery.fleet.machine import Action, EngineStatus, MachineReport
from enginery.registry.records import Record, read_record
from enginery.system.files import write_json

TOLD = Path(".dvc/tmp/enginery-told.json")
_AGAIN = timedelta(days=1)


class Told(Record):
    """The work that was told last, and when."""

    work: tuple[EngineStatus, ...] = ()
    when: datetime | None = None


def read_told() -> Told:
    """What this checkout told last; nothing where the file is missing or damaged."""
    try:
        return read_record(TOLD, Told)
    except DamagedFileError:
        return Told()


def news(report: MachineReport, told: Told) -> Sequence[Action]:
    """The actions of which the fleet does not know yet; none if nothing has changed."""
    work = _work(report)
    is_old = told.when is None or report.seen - told.when >= _AGAIN
    known = () if is_old else told.work
    return list(dict.fromkeys(each.action for each in work if each.action and each not in known))


def save_told(report: MachineReport) -> None:
    """Remember that the fleet knows all of a report."""
    told, work = read_told(), _work(report)
    same = told.when is not None and told.work == work and report.seen - told.when < _AGAIN
    when = told.when if same else report.seen
    write_json(TOLD, Told(work=work, when=when).model_dump(mode="json"))


def forget_told() -> None:
    """Tell at the next watch whatever is to be done then."""
    TOLD.unlink(missing_ok=True)


def _work(report: MachineReport) -> tuple[EngineStatus, ...]:
    return tuple(engine for engine in report.engines if engine.action)
