"""What is wrong after a run in a bad place, and after the next run."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.trouble.checkouts import Place
from benchmarks.trouble.outputs import differences, digests, partial_files
from benchmarks.trouble.processes import Ended, below_me, describe, kill_all


@dataclass(frozen=True)
class Verdict:
    """How a case went: `outcome` is "works", or the line with the cause.

    `problems` is empty if it passed.
    """

    name: str
    outcome: str
    seconds: float
    next_s: float
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Undisturbed:
    """The files before and after an undisturbed run, and how many bytes it writes at each place."""

    before: Mapping[str, str]
    after: Mapping[str, str]
    written: Mapping[str, int] = field(default_factory=dict)


def unclear_end(ended: Ended, says: str) -> Iterator[str]:
    """What is wrong with how a run ended that should work, or end with one clear line."""
    if ended.code is None:
        yield f"it hung: stopped after {ended.seconds:.0f} s; it said: {ended.last()}"
        return
    if ended.code not in (0, 1):
        yield f"exit code {ended.code}; it said: {ended.last()}"
    if ended.code == 1 and not any(re.search(says, line, re.IGNORECASE) for _, line in ended.lines):
        yield f"no line names the cause and the place; it said: {ended.last()}"
    if "Traceback (most recent call last)" in ended.text:
        yield f"a traceback: {ended.last(200)}"


def outcome_of(ended: Ended, says: str) -> str:
    if ended.code == 0:
        return "works"
    said = [line.strip() for _, line in ended.lines if re.search(says, line, re.IGNORECASE)]
    return said[0] if said else ended.last(160)


def lost_engines(place: Place, about: Undisturbed) -> Iterator[str]:
    """What is wrong with the registry: each engine must be there, whole, the old one or the new."""
    now = digests(place.root, "engines")
    for name in sorted(name for name in about.before if name.startswith("engines/")):
        if name not in now:
            yield f"{name} is lost"
        elif now[name] not in (about.before[name], about.after[name]):
            yield f"{name} is neither the old one nor the new one"
    for manifest in place.root.glob("artifacts/engines/*/*/*/manifest.json"):
        try:
            recorded = json.loads(manifest.read_text())["plan"]["sha256"]
            if (
                hashlib.sha256(manifest.with_name("model.plan").read_bytes()).hexdigest()
                != recorded
            ):
                yield f"{manifest.parent}: the plan is not its manifest's"
        except (OSError, ValueError, KeyError) as error:
            yield f"{manifest.parent}: {error}"


def left_processes() -> Iterator[str]:
    end = time.monotonic() + 10
    while (left := below_me()) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        yield f"processes are left: {describe(left)[:300]}"
        kill_all(left)


def after_recovery(ended: Ended, place: Place, about: Undisturbed) -> Iterator[str]:
    """What is wrong after the next run."""
    if ended.code != 0:
        yield f"the next run ends with {ended.code}: {ended.last()}"
    wrong = differences(about.after, digests(place.root))
    if wrong:
        yield f"after the next run, {len(wrong)} files differ: {'; '.join(wrong[:3])}"
    partial = partial_files(place.root)
    if partial:
        yield f"after the next run, partial files are left: {', '.join(partial[:4])}"
    yield from left_processes()
