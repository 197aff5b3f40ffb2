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
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.trouble.checkouts import (
    ROOT,
    Params,
    Place,
    copied,
    machine,
    prefect_server,
    template,
    workshop,
)
from benchmarks.trouble.kill_round import (
    Round,
    kill_run,
    recover,
    undisturbed_run,
    wait_for_orphans,
)
from benchmarks.trouble.processes import adopt_orphans, below_me, kill_all, side_by_side

MODEL, SIDE = "yolov8n-shapes", 160
OWN_SERVER_EACH = 10


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
        about = undisturbed_run(source)
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
    about = undisturbed_run(Place(source, server))
    place = copied(Place(source, "" if own_server else server), folder)
    result = Round(name, kind, own_server)
    try:
        held = kill_run(place, about, chance, result)
        if kind == "orphan":
            wait_for_orphans(result)
        recover(place, about, held, result)
    finally:
        kill_all(below_me())
        if result.problems and keep:
            shutil.copytree(place.folder, keep / name, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(place.folder, ignore_errors=True)
    print(json.dumps(asdict(result), ensure_ascii=False))
    return 0


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
