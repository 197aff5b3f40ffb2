"""How the last run went, kept for `enginery report`: each step's end, and the sum of all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from enginery.report.display import Outcome
from enginery.system.files import atomic_write

KEPT = Path(".dvc/tmp/enginery-run.json")


@dataclass(frozen=True)
class LastRun:
    """A run that has ended: when (local time), its summary, and its steps in their order."""

    ended: str
    summary: str
    outcomes: tuple[Outcome, ...]

    def in_state(self, *states: str) -> Sequence[Outcome]:
        """The steps that ended so."""
        return [outcome for outcome in self.outcomes if outcome.state in states]


def keep(run: LastRun) -> None:
    """Write a run down; without DVC's own folder a project has no place for it."""
    if KEPT.parents[1].is_dir():
        with atomic_write(KEPT) as partial:
            partial.write_text(json.dumps(asdict(run)), encoding="utf-8")


def last_run() -> LastRun | None:
    """The last run of this checkout; None if there was none, or its file is not whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(KEPT.read_bytes())
        outcomes = tuple(Outcome(**outcome) for outcome in content["outcomes"])
        return LastRun(content["ended"], content["summary"], outcomes)
    return None
