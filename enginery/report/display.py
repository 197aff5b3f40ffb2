"""What the terminal shows of a run: one line a step that did something, a live line for the one at
work.

What failed is said again at the end, where it is read: each with its reason and what to run next.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from enginery.report.console import table

if TYPE_CHECKING:
    from enginery.report.tables import Listed

COLOURS = {
    "Cached": "dim",
    "Elsewhere": "dim",
    "Restored": "cyan",
    "Completed": "green",
    "Failed": "red",
    "Skipped": "yellow",
}


_SILENT_S = 30
MOST_TITLES = 3  # of steps that failed for one reason


@dataclass(frozen=True)
class Outcome:
    """How a step ended: its state, the reason, seconds."""

    title: str
    state: str
    reason: str
    seconds: float


def skipped_for(title: str) -> str:
    """Why a step is skipped that needs a failed one."""
    return f"{title} failed"


@dataclass(frozen=True)
class Failure:
    """Steps that failed for one reason, and how many were skipped because they need them."""

    titles: tuple[str, ...]
    reason: str
    skipped: int


def failures_of(outcomes: Iterable[Outcome]) -> list[Failure]:
    """What failed, those of one reason together."""
    outcomes = list(outcomes)
    failed = [outcome for outcome in outcomes if outcome.state == "Failed"]
    blocked = [outcome.reason for outcome in outcomes if outcome.state == "Skipped"]
    alike: dict[str, list[Outcome]] = {}
    for outcome in failed:
        alike.setdefault(_without_subject(outcome), []).append(outcome)
    return [
        Failure(
            titles := tuple(outcome.title for outcome in outcomes),
            reason if len(outcomes) > 1 else outcomes[0].reason,
            sum(blocked.count(skipped_for(title)) for title in titles),
        )
        for reason, outcomes in alike.items()
    ]


def _without_subject(outcome: Outcome) -> str:
    """A reason that fits other steps, too: `register m int8 for t` may fail for what it says of
    `m int8 for t`.
    """
    subject = outcome.title.partition(" ")[2]
    return outcome.reason.replace(subject, "each") if " for " in subject else outcome.reason


@dataclass
class Display:
    """Follows a run on a console; `quiet` shows nothing.

    `summary` is set when the run has ended, `engines` when they were read then, `report` when its
    report was written.
    """

    console: Console = field(default_factory=lambda: Console(stderr=True))
    quiet: bool = False
    summary: str = ""
    report: str = ""
    engines: Sequence[Listed] | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
        )
        hidden = self.quiet or not self.console.is_terminal
        self._progress = Progress(*columns, console=self.console, transient=True, disable=hidden)
        self._tasks: dict[str, Any] = {}
        self._timers: dict[str, threading.Timer] = {}

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, title: str) -> None:
        """A stage is looked at."""
        self._tasks[title] = self._progress.add_task(title, total=None)

    def works(self, title: str, reason: str) -> None:
        """A stage is at work, and why. Where there is no live line, it is said of one that takes
        long.
        """
        if title in self._tasks:
            self._progress.update(self._tasks[title], description=f"{title}: {reason}")
        if not self.quiet and not self.console.is_terminal:
            text = f"Running   {title}: {reason}"
            timer = threading.Timer(_SILENT_S, self._line, [text])
            timer.daemon = True
            timer.start()
            self._timers[title] = timer

    def event(self, title: str, event: Mapping[str, Any]) -> None:
        """The stage at work says something."""
        if event["event"] == "progress" and title in self._tasks:
            phase = f"{title}: {event['phase']}"
            self._progress.update(
                self._tasks[title],
                description=phase,
                completed=event["step"],
                total=event["steps"],
            )
        elif event.get("notice"):  # of many messages, one that must not be missed
            self._line(f"Warning   {title}: {event['message']}", "yellow")

    def table(self, title: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Show a table."""
        if not self.quiet:
            self.console.print(table(title, rows))

    def left_out(self, target: str, why: str) -> None:
        """The steps of a target are for another machine: one line for all of them."""
        self._line(f"Elsewhere {target}: {why}", COLOURS["Elsewhere"])

    def warn(self, message: str) -> None:
        """Something is amiss beside the steps."""
        self._line(f"Warning {message}", "yellow")

    def failures(self) -> list[Failure]:
        """What failed, those of one reason together."""
        return failures_of(self.outcomes.values())

    def conclude(self, command: str) -> None:
        """Say what failed, which command goes on from here, and the summary: the last lines."""
        for failure in self.failures():
            shown = ", ".join(failure.titles[:MOST_TITLES])
            more = len(failure.titles) - MOST_TITLES
            self._line(
                f"Failed    {shown}{f' and {more} more' if more > 0 else ''}", COLOURS["Failed"]
            )
            self._line(f"          {failure.reason}")
            if failure.skipped:
                self._line(f"          {failure.skipped} steps need it: they were skipped")
        if self.failures():
            self._line(f"Next      `{command}`, once this is mended: it goes on from here")
        if self.report:
            self._line(f"Report    {self.report}")
        self._line(self.summary)

    def _line(self, text: str, style: str = "") -> None:
        if not self.quiet:
            self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def ended(self, outcome: Outcome) -> None:
        """A stage has ended."""
        self.outcomes[outcome.title] = outcome
        if outcome.title in self._timers:
            self._timers.pop(outcome.title).cancel()
        if outcome.title in self._tasks:
            self._progress.remove_task(self._tasks.pop(outcome.title))
        if self.quiet or outcome.state in ("Cached", "Elsewhere"):
            return
        colour = COLOURS[outcome.state]
        line = f"[{colour}]{outcome.state:<9}[/] {outcome.title}  [dim]{outcome.seconds:.1f} s[/]"
        self.console.print(line, highlight=False, soft_wrap=True)
        if outcome.state == "Failed":
            self._line(f"          {outcome.reason}")


current = Display(quiet=True)  # the command line puts its own here; a worker's run is silent
