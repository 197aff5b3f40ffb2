"""A fleet on this machine: `make fleet-demo`, or python -m benchmarks.fleet [--kills N] [--keep].

A bare git repository, an S3 remote (moto), a Prefect server on PostgreSQL (SQLite where Debian's
package is not installed), three workers with clones of their own for three targets. All build and
publish at once. Then rtx-ada's TensorRT-RTX is upgraded: its watch sends an event, which starts its
rebuild; the others stay. Two machines that build for one target at once build it once. A promotion
waits for its approval, and a serving host pulls. With `--kills`, the worker, the server and the
remote are each killed N times, at random moments of a rebuild.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.fleet.fleet import CHANGED, NEW, OLD, Fleet, expect, install, running, say
from benchmarks.fleet.kills import kills, push_size
from benchmarks.fleet.services import Service
from benchmarks.fleet.team import ROOT, TARGETS, enginery, run
from tests.team import identity

KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_REGION": "us-east-1"}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="Kill each part so often.")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--keep", action="store_true", help="Keep the folder.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="enginery-fleet-"))
    folder.chmod(0o755)  # PostgreSQL's user looks into it
    os.environ.update(identity(folder) | KEYS | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"})
    began = time.monotonic()
    with running(folder) as fleet:
        build_all(fleet)
        rebuild_one(fleet)
        twins(fleet)
        promote_and_pull(fleet)
        moments = random.Random(options.seed)
        for number in range(options.kills):
            kills(fleet, 100 + 3 * number, moments)
        pull_all(fleet)
        say("the fleet", enginery(fleet.folder, "fleet"))
    say(f"done in {time.monotonic() - began:.0f} s")
    if not options.keep:
        shutil.rmtree(folder)


def build_all(fleet: Fleet) -> None:
    """Every machine watches, its event starts its build, and all publish at once."""
    began = time.monotonic()
    for target in fleet.machines:
        fleet.api.start(f"watch/watch-{target}")
    for target in fleet.machines:
        fleet.api.completed(f"build-{target}", 1)
    expect(versions(fleet), {(target, 1) for target in TARGETS})
    say(f"{len(TARGETS)} machines built and published after {time.monotonic() - began:.0f} s")


def rebuild_one(fleet: Fleet) -> None:
    """Another TensorRT on one machine rebuilds there, and nowhere else."""
    install(fleet.toolchain, NEW)
    began = time.monotonic()
    watched = fleet.api.start(f"watch/watch-{CHANGED}")
    [_, again] = fleet.api.completed(f"build-{CHANGED}", 2)
    seconds = time.monotonic() - began
    for target in set(fleet.machines) - {CHANGED}:
        fleet.api.ended(fleet.api.start(f"watch/watch-{target}"))
    expect(versions(fleet), {(target, 1 + (target == CHANGED)) for target in TARGETS})
    for target in set(fleet.machines) - {CHANGED}:
        expect(len(fleet.api.runs(f"build-{target}")), 1)
    say(f"{OLD} -> {NEW} on {CHANGED}: rebuilt by its event after {seconds:.0f} s")
    say(fleet.api.durations({"watch": watched, "rebuild": again["id"]}))


def twins(fleet: Fleet) -> None:
    """Two more machines build for one target at the same moment: one builds, one restores."""
    target = "rtx-ampere"
    push_size(fleet, target, 99)
    clones = [fleet.folder / f"twin-{number}" for number in (1, 2)]
    for clone in clones:
        run(fleet.folder, "git", "clone", "--quiet", str(fleet.origin), str(clone))
    build = (
        f"from flows.build import build_engines; build_engines(targets=['{target}'], share=True)"
    )
    prepare = f"from enginery.fleet.checkout import use_checkout; use_checkout('.'); {build}"
    with ThreadPoolExecutor(2) as pool:
        line = (sys.executable, "-c", prepare)
        list(pool.map(lambda clone: run(clone, *line, ENGINERY_MACHINE=clone.name), clones))
    ends = [json.loads((clone / ".dvc/tmp/enginery-run.json").read_text()) for clone in clones]
    title = f"build fusion fp16 for {target}"
    states = [
        outcome["state"] for end in ends for outcome in end["outcomes"] if outcome["title"] == title
    ]
    expect(sorted(states), ["Completed", "Restored"])
    expect((target, 2) in versions(fleet), True)
    say(f"two machines built for {target} at once: one built, the other restored")


def promote_and_pull(fleet: Fleet) -> None:
    """A promotion waits for a person; then a serving host pulls."""
    variables = {"ENGINERY_HOME": str(fleet.machines[CHANGED].clone)}
    line = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "promote"]
    worker = Service("worker-promote", line, fleet.folder, variables)
    worker.start()
    try:
        parameters = {"engine": f"fusion/{CHANGED}/fp16", "unvalidated": True, "reason": "demo"}
        promotion = fleet.api.start("promote/promote", **parameters)
        paused = lambda: fleet.api.state(promotion) == "PAUSED"  # noqa: E731
        fleet.api.until(paused, "the question")
        answer = {"approved": True, "by": "Ada", "why": "it is a demo"}
        fleet.api.post(f"/flow_runs/{promotion}/resume", run_input=answer)
        expect(fleet.api.ended(promotion)["type"], "COMPLETED")
    finally:
        worker.kill()
    host = fleet.folder / "host"
    host.mkdir()
    says = enginery(
        host,
        *("pull", "fusion", "--registry", str(fleet.origin), "--runtime", f"tensorrt_rtx=={NEW}"),
        *("--compute-capability", "8.9"),
    )
    expect((host / "engines/fusion/current/model.plan").is_file(), True)
    say("approved by Ada, and pulled by a serving host", says)


def pull_all(fleet: Fleet) -> None:
    """Every engine comes from the remote with the bytes that were published."""
    host = fleet.folder / "host"
    for capability in ("8.6", "8.9", "12.0"):
        for precision in ("fp32", "fp16"):
            enginery(
                host,
                *("pull", "fusion", "--precision", precision, "--state", "candidate"),
                *("--registry", str(fleet.origin), "--out", f"{capability}-{precision}"),
                *("--runtime", f"tensorrt_rtx=={NEW}", "--compute-capability", capability),
            )
    say("every engine of the registry was pulled, and is whole")


def versions(fleet: Fleet) -> set[tuple[str, int]]:
    """The newest version of each fp16 engine in the registry, by target."""
    listed = json.loads(enginery(fleet.machines[CHANGED].clone, "published", "--json"))
    return {(each["target"], each["version"]) for each in listed if each["precision"] == "fp16"}


if __name__ == "__main__":
    main()
