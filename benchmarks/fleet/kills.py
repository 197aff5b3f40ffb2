"""The fleet's parts die in the middle of rebuilds; what they were at is published in the end."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from benchmarks.fleet.fleet import CHANGED, Fleet, say
from benchmarks.fleet.team import change_yaml, enginery, run


def kills(fleet: Fleet, first: int, moments: random.Random) -> None:
    """The worker, the server and the remote die at some moment of a rebuild; it is published in the
    end. Each change is another workspace for TensorRT, from `first` MiB on.
    """
    victims = {
        "worker": fleet.machines[CHANGED].worker,
        "server": fleet.server,
        "remote": fleet.s3,
    }
    for size, (name, victim) in enumerate(victims.items(), first):
        began, delay = time.monotonic(), moments.uniform(0, 8)
        push_size(fleet, CHANGED, size)
        before = len(fleet.api.runs(f"build-{CHANGED}"))
        fleet.api.start(f"watch/watch-{CHANGED}")
        begun = lambda: running_build(fleet, before)  # noqa: B023, E731
        fleet.api.until(begun, "a build that runs")
        time.sleep(delay)
        victim.kill()
        time.sleep(3)
        victim.start()
        finish(fleet, size)
        seconds = time.monotonic() - began
        say(f"{name} killed {delay:.1f} s after a rebuild began: published after {seconds:.0f} s")


def push_size(fleet: Fleet, target: str, size: int) -> None:
    """A member of the team changes an option of one target's builds."""
    first = fleet.folder / "first"

    def edit(params: dict[str, dict[str, dict[str, object]]]) -> None:
        params["targets"][target]["workspace_mib"] = size

    change_yaml(first / "params.yaml", edit)
    enginery(first, "status")
    run(first, "git", "commit", "--quiet", "--all", "-m", f"{size} MiB")
    run(first, "git", "push", "--quiet", str(fleet.origin), "main")


def running_build(fleet: Fleet, before: int) -> bool:
    """Whether a build that was started after so many others is at work."""
    runs = fleet.api.runs(f"build-{CHANGED}")[before:]
    return any(run["state"]["type"] == "RUNNING" for run in runs)


def finish(fleet: Fleet, size: int) -> None:
    """Tell it again, as a worker does that starts, until the engines of a size are published."""
    clone = fleet.machines[CHANGED].clone
    end = time.monotonic() + 240
    while time.monotonic() < end:
        fleet.api.until(lambda: fleet.api.get("/health"), "the server")
        parameters = {"targets": [CHANGED], "again": True}
        fleet.api.ended(fleet.api.start(f"watch/watch-{CHANGED}", **parameters), 120)
        if is_published(clone, size):
            return
        time.sleep(5)
    raise TimeoutError(f"the engines of {size} MiB were not published")


def is_published(clone: Path, size: int) -> bool:
    """Whether the newest version of an engine was built with this size."""
    name = f"fusion/{CHANGED}/fp16"
    run(clone, "git", "fetch", "--quiet", "origin", "engines")
    manifest = json.loads(run(clone, "git", "show", f"FETCH_HEAD:{name}/manifest.json"))
    parameters = manifest["steps"]["build"]["recipe"]["parameters"]
    return bool(parameters.get("workspace_mib") == size)
