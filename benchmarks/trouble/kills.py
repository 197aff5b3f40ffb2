"""Kill a run from nothing, all its processes at once, and let the next run mend what is left.

    .venv/bin/python -m benchmarks.trouble.kills [--rounds 100] [--aimed 30] [--orphans 3]
        [--seed 12] [--jobs 2] [--keep FOLDER] [--log FILE] [--resume] [--only REGEX]

random: at any moment of an undisturbed run: so many steps done, and so long into the next.
aimed: when dvc.lock is created, truncated, written or replaced, for the n-th time.
orphans: only the command itself is killed; its server, DVC, step and toolchain must end, too.

One round in ten uses Prefect's own server instead of a shared one, and so does each of the orphans.
A round passes if the next run succeeds and ends in the graphs, caches, plans and manifests of an
undisturbed run, says one line of repair at most, makes nothing again that DVC's cache held, and
leaves no process and no partial file.

The log has a JSON line for each round; `--resume` goes on where it ends.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import re
import select
import shutil
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
import yaml

from benchmarks.trouble.checkouts import (
    ROOT,
    Params,
    Place,
    copied,
    machine,
    must,
    prefect_server,
    product_digest,
    template,
    workshop,
)
from benchmarks.trouble.outputs import differences, digests, partial_files
from benchmarks.trouble.processes import (
    Ended,
    adopt_orphans,
    below_me,
    describe,
    follow,
    kill_all,
    side_by_side,
    working_in,
)

MODEL, SIDE = "yolov8n-shapes", 160
OWN_SERVER_EACH = 10
RUN_LIMIT_S, ORPHANS_END_S, GRACE_S = 600, 20, 10
OUTCOME = re.compile(
    r"^(Completed|Restored|Cached|Failed|Skipped|Elsewhere)\s+(.*?)(?:  [\d.]+ s)?$"
)
SUMMARY = re.compile(r"^\d+ \w+(, \d+ \w+)*$")
CLOSING = "Registered engines"
IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x2, 0x8, 0x80, 0x100


@dataclass(frozen=True)
class Undisturbed:
    """What a run from nothing does: when each step had ended, and what it leaves."""

    ends: tuple[tuple[float, str], ...]
    seconds: float
    digests: Mapping[str, str]
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many steps, or at the n-th writing of dvc.lock, and then `delay_s`."""

    kind: str
    after_steps: int = 0
    writing: int = 0
    delay_s: float = 0

    def __str__(self) -> str:
        if self.kind == "aimed":
            return f"writing {self.writing} of dvc.lock + {self.delay_s * 1000:.1f} ms"
        return f"{self.after_steps} steps + {self.delay_s:.2f} s"


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


def main() -> int:
    """All rounds; 0 if all passed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, count in (("rounds", 100), ("aimed", 30), ("orphans", 3), ("seed", 12), ("jobs", 1)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the checkouts of failed rounds here"
    )
    parser.add_argument("--log", type=Path, default=Path("kills.jsonl"))
    parser.add_argument(
        "--resume", action="store_true", help="leave out the rounds that the log has"
    )
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="only rounds of such names, as aimed/7"
    )
    parser.add_argument(
        "--worker", nargs=3, help=argparse.SUPPRESS
    )  # a round, in a process of its own
    args = parser.parse_args()
    if args.worker:
        return _work(args.worker[0], args.worker[1], args.seed, Path(args.worker[2]), args.keep)
    print(machine(), f"seed {args.seed}", sep=", ", flush=True)
    return _play(args)


def _play(args: argparse.Namespace) -> int:
    old = _logged(args.log) if args.resume else []
    kinds = (("random", args.rounds), ("aimed", args.aimed), ("orphan", args.orphans))
    names = [f"{kind}/{number}" for kind, count in kinds for number in range(1, count + 1)]
    known = {one.name for one in old}
    todo = [name for name in names if name not in known and re.search(args.only, name)]
    began = time.monotonic()
    with prefect_server() as server:
        source = template("kills", server, _prepare)
        about = _undisturbed(source)
        print(
            f"undisturbed: {len(about.ends)} steps, {len(about.digests)} files, "
            f"{about.seconds:.0f} s",
            flush=True,
        )
        rounds = list(old)
        with (
            args.log.open("a" if args.resume else "w") as log,
            side_by_side(args.jobs) as pool,
        ):
            for one in pool.map(lambda name: _in_a_process(name, server, source, args), todo):
                rounds.append(one)
                log.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
                log.flush()
                print(_line(one), flush=True)
    print(table(rounds))
    print(f"{time.monotonic() - began:.0f} s for {len(todo)} rounds, {args.jobs} side by side")
    return 1 if any(one.problems for one in rounds) else 0


def _logged(log: Path) -> list[Round]:
    rounds = []
    for line in log.read_text().splitlines() if log.is_file() else []:
        with suppress(ValueError, TypeError):  # the last line may be cut off
            rounds.append(Round(**json.loads(line)))
    return rounds


def _prepare(place: Place) -> None:
    """One model, one target, INT8: every kind of step, and each as small as it can be."""

    def small(params: Params) -> None:
        params["models"][MODEL].update(height=SIDE, width=SIDE)
        params["demo"] = {"validation_images": 3, "calibration_images": 3}
        params["int8"][MODEL]["minimum_images"] = 3
        params["matrix"].update(targets=["rtx-ada"], precisions=["int8"])
        params["validation"] = {
            "map50_95_drop": 1.0,
            "rms_relative": {"fp32": 0.1, "fp16": 0.5, "int8": 1.0},
        }

    place.change(small)


def _undisturbed(source: Place) -> Undisturbed:
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


def _in_a_process(name: str, server: str, source: Place, args: argparse.Namespace) -> Round:
    """A round in a process that all orphans of it fall to, and no others."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.trouble.kills",
        "--seed",
        str(args.seed),
        "--worker",
        name,
        server,
        str(source.folder),
    ]
    if args.keep:
        command += ["--keep", str(args.keep.resolve())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        return Round(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        what = f"the script itself: {' | '.join((done.stdout + done.stderr).splitlines()[-3:])}"
        return Round(name, name.split("/")[0], False, problems=[what])


def _work(name: str, server: str, seed: int, source: Path, keep: Path | None) -> int:
    """The process of one round: its result is its last line."""
    adopt_orphans()
    chance = random.Random(f"{seed}/{name}")
    kind, number = name.split("/")
    own_server = kind == "orphan" or int(number) % OWN_SERVER_EACH == 0
    folder = workshop() / f"round-{kind}-{number}-{os.getpid()}"
    about = _undisturbed(Place(source, server))
    place = copied(Place(source, "" if own_server else server), folder)
    result = Round(name, kind, own_server)
    try:
        held = _kill(place, about, chance, result)
        if kind == "orphan":
            _wait_for_orphans(result)
        _recover(place, about, held, result)
    finally:
        kill_all(below_me())
        if result.problems and keep:
            shutil.copytree(place.folder, keep / name, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(place.folder, ignore_errors=True)
    print(json.dumps(asdict(result), ensure_ascii=False))
    return 0


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


def _kill(place: Place, about: Undisturbed, chance: random.Random, result: Round) -> set[str]:
    """Start a run and kill it; where it ended before the moment, another moment is drawn.

    Returns the titles of the steps whose outputs must not be made again.
    """
    while True:
        moment = draw(result.kind, about, chance)
        result.moment = str(moment)
        process = place.start("build")
        killer = _Killer(process.pid, moment, place.root)
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
    return made | _in_cache(place.root)


class _Killer:
    """Follows a run, and kills all of it at its moment."""

    def __init__(self, pid: int, moment: Moment, root: Path) -> None:
        self._pid, self._moment, self._steps = pid, moment, 0
        self.killed, self.during = 0, "the start"
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if moment.kind == "aimed":
            self._begin(lambda: self._watch(root))
        elif not moment.after_steps:
            self._begin(self._strike)

    def hear(self, line: str) -> None:
        """A line of the run."""
        match = OUTCOME.match(line)
        if match:
            self._steps += 1
            self.during = f"what follows {match[2]}"
            if self._moment.kind != "aimed" and self._steps == self._moment.after_steps:
                self._begin(self._strike)

    def stop(self) -> None:
        """The run has ended."""
        self._ended.set()
        if self._thread:
            self._thread.join()

    def _begin(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _strike(self) -> None:
        if self._ended.wait(self._moment.delay_s):
            return
        if self._moment.kind == "orphan":
            with suppress(ProcessLookupError):
                os.kill(self._pid, 9)
                self.killed = 1
            return
        stopped: dict[int, psutil.Process] = {}
        while new := [process for process in below_me() if process.pid not in stopped]:
            for process in new:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
                stopped[process.pid] = process
        self.killed = len(stopped)
        kill_all(list(stopped.values()))

    def _watch(self, root: Path) -> None:
        """Wait for dvc.lock's n-th writing; stop who writes it first of all."""
        writing, open_ = 0, False
        for kind in _changes(root, "dvc.lock", self._ended):
            if not open_ and kind & (IN_CREATE | IN_MODIFY | IN_MOVED_TO):
                writing += 1
                open_ = not kind & IN_MOVED_TO
                if writing == self._moment.writing:
                    if self._moment.delay_s:
                        time.sleep(self._moment.delay_s)
                    _stop_children(self._pid)
                    self._strike_now()
                    return
            if kind & IN_CLOSE_WRITE:
                open_ = False

    def _strike_now(self) -> None:
        self._moment = Moment("random")
        self._strike()


def _stop_children(pid: int) -> None:
    """Stop the children of a process: to look at all takes longer than dvc.lock is open."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(child), 19)


def _changes(folder: Path, name: str, ended: threading.Event) -> Iterator[int]:
    """What inotify says of the files in a folder that have `name` in theirs, as it happens."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    mask = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(folder), mask) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    try:
        while not ended.is_set():
            if not select.select([watch], [], [], 0.2)[0]:
                continue
            data = os.read(watch, 1 << 16)
            while data:
                _, kind, _, length = struct.unpack_from("iIII", data)
                said, data = data[16 : 16 + length].rstrip(b"\0"), data[16 + length :]
                if name in os.fsdecode(said):
                    yield kind
    finally:
        os.close(watch)


def lock_state(lock: Path) -> str:
    """missing, empty, half or whole."""
    if not lock.is_file():
        return "missing"
    text = lock.read_text(errors="replace")
    if not text.strip():
        return "empty"
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return "half"
    whole = isinstance(found, dict) and isinstance(found.get("stages"), dict)
    whole = whole and all(
        isinstance(stage, dict) and "outs" in stage for stage in found["stages"].values()
    )
    return "whole" if whole else "half"


def _in_cache(root: Path) -> set[str]:
    """The titles of the steps that DVC's run-cache names and whose outputs its cache holds."""
    held = set()
    for path in (root / ".dvc/cache/runs").glob("*/*/*"):
        with suppress(yaml.YAMLError, KeyError, TypeError):
            stage = yaml.safe_load(path.read_text())
            if all(_object(root, out["md5"]) for out in stage["outs"]):
                held.add(title_of(stage["cmd"]))
    return held


def _object(root: Path, digest: str) -> bool:
    path = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    if not path.is_file() or not digest.endswith(".dir"):
        return path.is_file()
    return all(_object(root, entry["md5"]) for entry in json.loads(path.read_text()))


def title_of(command: str) -> str:
    """What a run calls the step of a command line: build yolov8n fp16 for rtx-ada."""
    module, *parts = command.split()[2:]
    name = module.removeprefix("tasks.").replace("_", "-")
    if len(parts) == 3:
        return f"{name} {parts[0]} {parts[2]} for {parts[1]}"
    return " ".join([name, *parts])


def _wait_for_orphans(result: Round) -> None:
    end = time.monotonic() + ORPHANS_END_S
    while (left := below_me()) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        result.problems.append(
            f"{len(left)} processes survive their run's SIGKILL by {ORPHANS_END_S} s: "
            f"{describe(left)[:400]}"
        )
        kill_all(left)


def _recover(place: Place, about: Undisturbed, held: set[str], result: Round) -> None:
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


def _line(one: Round) -> str:
    server = ", own server" if one.own_server else ""
    states = ", ".join(f"{count} {state}" for state, count in one.states.items())
    repair = f"; it says: {one.repair[:120]}" if one.repair else ""
    state = "FAIL" if one.problems else "ok  "
    during = f"{one.during}; {one.killed} processes{server}"
    head = f"{state} {one.name:<10} at {one.moment} ({during})"
    lock = f"dvc.lock {one.lock}; next run {one.recovery_s:.0f} s: {states}{repair}"
    return "\n".join([f"{head}: {lock}", *(f"       {problem}" for problem in one.problems)])


def table(rounds: list[Round]) -> str:
    """What came of them, a line for each kind, as Markdown."""
    rows = [
        "| kills | rounds | next run succeeds | same digests | nothing made again | nothing left "
        "| all hold | dvc.lock afterwards | next run, median |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in ("random", "aimed", "orphan"):
        of_kind = [one for one in rounds if one.kind == kind]
        if of_kind:
            rows.append(_row(kind, of_kind))
    return "\n".join(rows)


def _row(kind: str, rounds: list[Round]) -> str:
    def without(*words: str) -> int:
        return sum(
            not any(word in problem for word in words for problem in one.problems) for one in rounds
        )

    locks = [one.lock for one in rounds]
    states = ", ".join(
        f"{locks.count(state)} {state}"
        for state in ("whole", "missing", "empty", "half")
        if state in locks
    )
    figures = [
        len(rounds),
        sum(one.code == 0 for one in rounds),
        without("files differ"),
        without("made again"),
        without("are left", "survive"),
        sum(not one.problems for one in rounds),
    ]
    median = statistics.median(one.recovery_s for one in rounds)
    return f"| {kind} | {' | '.join(map(str, figures))} | {states} | {median:.0f} s |"


if __name__ == "__main__":
    sys.exit(main())
