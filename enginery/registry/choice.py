"""Which engine of a registry a host takes: what each one's version would be, whether it fits, and
which fits best. Pure: nothing is asked and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginery.project.engine_name import EngineName
from enginery.registry.host import Host, closeness, misfits, rank
from enginery.registry.published import STATES, PublishedEngine

CANDIDATE, VALIDATED = STATES


@dataclass(frozen=True)
class Verdict:
    """An engine's version that a host looked at, and why it does not take it; none: it fits."""

    engine: PublishedEngine
    reasons: tuple[str, ...]
    closeness: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """For a table."""
        verdict = self.closeness or "; ".join(self.reasons)
        return {
            "engine": self.engine.short_title,
            "state": self.engine.state,
            "runtime": f"{self.engine.runtime} {self.engine.runtime_version}",
            "on this host": verdict,
        }


def judge(
    engines: Iterable[PublishedEngine], host: Host, state: str, serves: Mapping[EngineName, int]
) -> list[Verdict]:
    """A verdict for each engine: those that fit come first, the best before the others.

    `state` is candidate (the newest version), validated (the newest that is) or a stage, of which
    `serves` tells the versions.
    """
    by_name: dict[EngineName, list[PublishedEngine]] = {}
    for engine in sorted(engines, key=lambda each: (each.name, each.version)):
        by_name.setdefault(engine.name, []).append(engine)
    verdicts = [
        _verdict(versions, host, state, serves.get(name)) for name, versions in by_name.items()
    ]
    fitting = [verdict for verdict in verdicts if not verdict.reasons]
    others = [verdict for verdict in verdicts if verdict.reasons]
    fitting.sort(key=lambda verdict: rank(verdict.engine, host))
    return [*fitting, *sorted(others, key=lambda verdict: len(verdict.reasons))]


def runs_here(engines: Iterable[PublishedEngine], host: Host) -> list[EngineName]:
    """The names of which some version runs on a host."""
    return sorted({engine.name for engine in engines if not misfits(engine, host)})


def _verdict(
    versions: Sequence[PublishedEngine], host: Host, state: str, served: int | None
) -> Verdict:
    eligible = [engine for engine in versions if _is_eligible(engine, state, served)]
    fitting = [engine for engine in versions if not misfits(engine, host)]
    engine = (eligible or fitting or versions)[-1]
    reasons = misfits(engine, host)
    if not eligible and fitting:  # of those that fit in no version, nobody asked what serves
        reasons.append("it is a candidate only" if state == VALIDATED else f"not in {state}")
    return Verdict(engine, tuple(reasons), "" if reasons else closeness(engine, host))


def _is_eligible(engine: PublishedEngine, state: str, served: int | None) -> bool:
    if state == CANDIDATE:
        return True
    return engine.validated if state == VALIDATED else engine.version == served
