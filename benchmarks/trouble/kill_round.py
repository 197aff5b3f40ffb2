"""One round of `kills`: a run is killed, and the next one must mend what is left."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from benchmarks.trouble.checkouts import Place, copied, must, product_digest, workshop
from benchmarks.trouble.killer import OUTCOME, Killer, Moment, in_cache, lock_state
from benchmarks.trouble.outputs import differences, digests, partial_files
from benchmarks.trouble.processes import Ended, below_me, describe, follow, kill_all, working_in

RUN_LIMIT_S, ORPHANS_END_S, GRACE_S = 600, 20, 10
SUMMARY = re.compile(r"^\d+ \w+(, \d+ \w+)*$")
CLOSING = "Registered engines"


@dataclass(frozen=True)
class Undisturbed:
    """What a run from nothing does: when each step had ended, and what it leaves."""

    ends: tuple[tuple[float, str], ...]
    seconds: float
    digests: Mapping[str, str]
    stages: tuple[str, ...]


@dataclass
class Round:
    """One round and what came of it; `problems` is empty if it passed."""

    name: str
    kind: str
    own_server: bool
    moment: str = ""
    killed: int = 0
    during: str = ""
    lock: str = ""
    made: int = 0
    code: int | None = None
    recovery_s: float = 0
    states: dict[str, int] = field(default_factory=dict)
    repair: str = ""
    left_in_tmpdir: int = 0
    problems: list[str] = field(default_factory=list)


def undisturbed_run(source: Place) -> Undisturbed:
    """The run that all others are compared with, kept beside the template."""
    kept = workshop() / f"kills-{product_digest()}-undisturbed.json"
    if not kept.is_file():
        place = copied(source, workshop() / f"undisturbed-{os.getpid()}")
        ended = must(place.run("build", limit=RUN_LIMIT_S), "the undisturbed run")
        ends = [(at_s, match[2]) for at_s, line in ended.lines if (match := OUTCOME.match(line))]
        stages = sorted(yaml.safe_load((place.root / "dvc.lock").read_text())["stages"])
        kept.write_text(json.dumps([ends, ended.seconds, digests(place.root), stages]))
        shutil.rmtree(place.folder)
    ends, seconds, files, stages = json.loads(kept.read_text())
    return Undisturbed(tuple((at_s, title) for at_s, title in ends), seconds, files, tuple(stages))


def draw(kind: str, about: Undisturbed, chance: random.Random) -> Moment:
    """A moment of an undisturbed run, each as likely as another; or a writing of dvc.lock."""
    if kind == "aimed":
        delay_s = chance.choice([0, 0, chance.uniform(0, 0.004), chance.uniform(0, 0.02)])
        return Moment(kind, writing=chance.randint(1, len(about.stages)), delay_s=delay_s)
    at_s = chance.uniform(
        0, about.ends[-1][0] + 1
    )  # the verdict and the closing table take a moment, too
    before = [end for end, _ in about.ends if end <= at_s]
    return Moment(kind, after_steps=len(before), delay_s=at_s - (before[-1] if before else 0))


def kill_run(place: Place, about: Undisturbed, chance: random.Random, result: Round) -> set[str]:
    """Start a run and kill it; where it ended before the moment, another moment is drawn.

    Returns the titles of the steps whose outputs must not be made again.
    """
    while True:
        moment = draw(result.kind, about, chance)
        result.moment = str(moment)
        process = place.start("build")
        killer = Killer(process.pid, moment, place.root)
        ended = follow(process, RUN_LIMIT_S, killer.hear)
        killer.stop()
        if killer.killed:
            break
        shutil.rmtree(place.root / "artifacts", ignore_errors=True)
        shutil.rmtree(place.root / ".dvc/cache", ignore_errors=True)
        (place.root / "dvc.lock").unlink(missing_ok=True)
    made = {
        match[2]
        for _, line in ended.lines
        if (match := OUTCOME.match(line)) and match[1] == "Completed"
    }
    result.killed, result.during, result.made = killer.killed, killer.during, len(made)
    result.lock = lock_state(place.root / "dvc.lock")
    if (
        result.lock != "whole"
    ):  # DVC's cache does not hold what is registered: only dvc.lock names it
        made = {title for title in made if not title.startswith("register")}
    return made | in_cache(place.root)


def wait_for_orphans(result: Round) -> None:
    end = time.monotonic() + ORPHANS_END_S
    while (left := below_me()) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        result.problems.append(
            f"{len(left)} processes survive their run's SIGKILL by {ORPHANS_END_S} s: "
            f"{describe(left)[:400]}"
        )
        kill_all(left)


def recover(place: Place, about: Undisturbed, held: set[str], result: Round) -> None:
    """The next run, and all that must hold after it."""
    ended = place.run("build", limit=RUN_LIMIT_S)
    result.code, result.recovery_s = ended.code, ended.seconds
    states = [match for _, line in ended.lines if (match := OUTCOME.match(line))]
    result.states = {
        state: [one[1] for one in states].count(state)
        for state in sorted({one[1] for one in states})
    }
    again = {one[2] for one in states if one[1] == "Completed"} & held - {"fingerprint"}
    if again:
        result.problems.append(f"made again: {', '.join(sorted(again))}")
    result.problems += _wrong_with(ended, place, about)
    extra = list(_other_lines(ended))
    result.repair = extra[0] if extra else ""
    if len(extra) > 1:
        result.problems.append(f"{len(extra)} further lines: {' | '.join(extra[:3])[:300]}")
    result.left_in_tmpdir = len(list(place.temporary.iterdir()))


def _wrong_with(ended: Ended, place: Place, about: Undisturbed) -> Iterator[str]:
    if ended.code != 0:
        yield f"the next run ends with {ended.code}: {ended.last()}"
    wrong = differences(about.digests, digests(place.root))
    if wrong:
        yield f"{len(wrong)} files differ from an undisturbed run's: {'; '.join(wrong[:3])}"
    end = time.monotonic() + GRACE_S
    while (left := [*below_me(), *working_in(place.folder)]) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        yield f"processes are left: {describe(left)[:300]}"
    partial = partial_files(place.root)
    if partial:
        yield f"partial files are left: {', '.join(partial[:4])}"
    lock = place.root / "dvc.lock"
    if lock_state(lock) != "whole":
        yield f"dvc.lock is {lock_state(lock)}"
        return
    missing = set(about.stages) - set(yaml.safe_load(lock.read_text())["stages"])
    if missing:
        yield f"dvc.lock has lost {', '.join(sorted(missing)[:3])}"


def _other_lines(ended: Ended) -> Iterator[str]:
    """What a run says beside how its steps ended, its closing table and its summary."""
    for _, line in ended.lines:
        if line.startswith(CLOSING):
            return
        if line.strip() and not OUTCOME.match(line) and not SUMMARY.match(line):
            yield line.strip()
