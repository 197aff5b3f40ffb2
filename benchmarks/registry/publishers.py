"""Eight machines publish forty engines at once; in further rounds they are killed on the way.

    .venv/bin/python -m benchmarks.registry.publishers [--machines 8] [--engines 5] [--rounds 20]
        [--seed 15]

Each machine has a clone of its own; origin is a bare git repository, the DVC remote a folder. In a
round of kills each process gets a SIGKILL at a random moment of an undisturbed run, with its
children, and is run again. A round holds if every engine is there once, every file that the
registry names is there with its bytes, each version has its tag, and history is one line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enginery.pipeline.lockfile import md5
from enginery.pipeline.plans import pointed_at
from enginery.registries.git_branch import POINTER
from enginery.registries.git_index import parse_index
from enginery.system.files import sha256
from tests.team import MODEL, Machine, Team, clone, git, identity, make_team

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Round:
    """A registry from nothing: its seconds, how many were killed, and what does not hold."""

    seconds: float
    killed: int
    faults: tuple[str, ...]


def start(machine: Machine) -> subprocess.Popen[bytes]:
    """`enginery publish` in a group of its own."""
    line = [sys.executable, "-m", "enginery", "publish"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        line, cwd=machine.root, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )


def prepare(folder: Path, machines: int, engines: int) -> tuple[Team, list[Machine], set[str]]:
    """A team whose machines have engines that nobody has published."""
    folder.mkdir()
    os.environ.update(identity(folder))
    team, names = make_team(folder), set()
    clones = [clone(team, f"machine-{number}") for number in range(machines)]
    for number, machine in enumerate(clones):
        allow_all(machine)
        for engine in range(engines):
            name = f"{MODEL}/target-{number}-{engine}/fp16"
            machine.register(name, content="x" * 20_000, valid=True)
            names.add(name)
    return team, clones, names


def allow_all(machine: Machine) -> None:
    """Let params.yaml ask for the synthetic targets."""
    import yaml

    path = machine.root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    targets = [f"target-{number}-{engine}" for number in range(16) for engine in range(16)]
    params["targets"] = {name: {"runtime": "tensorrt"} for name in targets}
    params["matrix"].update(targets=targets, precisions=["fp16"])
    params["int8"] = {}
    path.write_text(yaml.safe_dump(params))


def run_round(folder: Path, options: argparse.Namespace, kills: random.Random | None) -> Round:
    """Publish everything, with kills if there is a source of moments."""
    team, machines, names = prepare(folder, options.machines, options.engines)
    begin, killed = time.monotonic(), 0
    runs = [start(machine) for machine in machines]
    if kills:
        for run in sorted(runs, key=lambda _: kills.random()):
            time.sleep(kills.uniform(0, options.span / len(runs)))
            killed += run.poll() is None
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        runs = [start(machine) for machine in machines]
    codes = [run.wait() for run in runs]
    seconds = time.monotonic() - begin
    faults = [f"exit codes {codes}"] if any(codes) else []
    faults += check(team, machines[0], names)
    shutil.rmtree(folder)
    return Round(seconds, killed, tuple(faults))


def check(team: Team, machine: Machine, names: set[str]) -> list[str]:
    """What does not hold of a registry that must have these engines, each once."""
    engines = parse_index(team.git("show", f"engines:{MODEL}/index.json").encode(), "index")
    faults = []
    if sorted(str(engine.name) for engine in engines) != sorted(names):
        faults.append(f"{len(engines)} engines, not {len(names)}")
    files, tags = set(team.tree()), set(team.git("tag", "--list").split())
    if tags != {f"{engine.name}@v{engine.version}.0.0" for engine in engines}:
        faults.append(f"{len(tags)} tags")
    for engine in engines:
        folder = f"{engine.name}"
        if not {f"{folder}/{name}" for name in ("manifest.json", "report.json", POINTER)} <= files:
            faults.append(f"{folder} lacks a file")
            continue
        digest = pointed_at(team.git("show", f"engines:{folder}/{POINTER}").encode())
        plan = team.remote / "files/md5" / digest[:2] / digest[2:]
        if md5(plan) != digest or sha256(plan) != engine.plan_sha256:
            faults.append(f"{folder}: its plan is not whole")
    if team.git("rev-list", "--merges", "engines"):
        faults.append("history is not one line")
    team.git("fsck", "--strict", "--no-dangling")
    if git(machine.root, "status", "--porcelain", "--untracked-files=no") != " M params.yaml\n":
        faults.append("a work tree has changed")
    return faults


def show(what: str, rounds: Sequence[Round]) -> None:
    """A line of the table."""
    seconds = sorted(each.seconds for each in rounds)
    whole = sum(not each.faults for each in rounds)
    killed = sum(each.killed for each in rounds)
    middle = seconds[len(seconds) // 2]
    print(f"| {what} | {len(rounds)} | {whole} | {killed} | {middle:.1f} | {seconds[-1]:.1f} |")
    for each in rounds:
        if each.faults:
            print(json.dumps(each.faults))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--engines", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=15)
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="enginery-publishers-"))
    print("| rounds of | rounds | all holds | killed | median s | slowest s |")
    print("|---|---|---|---|---|---|")
    quiet = [run_round(place / f"quiet-{number}", options, None) for number in range(3)]
    show("no kills", quiet)
    options.span = min(each.seconds for each in quiet)
    moments = random.Random(options.seed)
    killed = [run_round(place / f"kills-{n}", options, moments) for n in range(options.rounds)]
    show("kills", killed)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
