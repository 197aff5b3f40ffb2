"""A fleet on this machine: `make fleet-demo`, or python -m benchmarks.fleet [--kills] [--keep].

A bare git repository, an S3 remote (moto), a Prefect server on PostgreSQL (SQLite where Debian's
package is not installed), three workers with clones of their own for three targets. All build and
publish at once. Then rtx-ada's TensorRT-RTX is upgraded: its watch sends an event, which starts its
rebuild; the others stay. Two machines that build for one target at once build it once. A promotion
waits for its approval, and a serving host pulls. With
`--kills`, the worker, the server and the remote are killed in the middle of rebuilds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet.prefect_client import Api
from benchmarks.fleet.services import (
    BUCKET,
    Service,
    free_port,
    log_tail,
    postgres,
    prefect_server,
    s3_server,
)
from benchmarks.fleet.team import (
    ROOT,
    TARGETS,
    Machine,
    change_yaml,
    enginery,
    make_machine,
    make_origin,
    run,
)
from tests.team import identity

OLD, NEW = "1.6.1.120", "1.7.1.116"
CHANGED = "rtx-ada"
KEYS = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Fleet:
    """What runs."""

    folder: Path
    origin: Path
    api: Api
    server: Service
    s3: Service
    machines: dict[str, Machine]
    toolchain: Path


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", action="store_true", help="Kill the parts, too.")
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
        if options.kills:
            kills(fleet)
        say("the fleet", enginery(fleet.folder, "fleet"))
    say(f"done in {time.monotonic() - began:.0f} s")
    if not options.keep:
        shutil.rmtree(folder)


@contextmanager
def running(folder: Path) -> Iterator[Fleet]:
    """Everything started, and killed in the end."""
    services: list[Service] = []
    try:
        yield start(folder, services)
    except BaseException:
        for service in services:
            print(f"--- {service.name}\n{log_tail(service)}", file=sys.stderr)
        raise
    finally:
        for service in reversed(services):
            service.kill()


def start(folder: Path, services: list[Service]) -> Fleet:
    """Start all of it; each service joins a list."""
    with ThreadPoolExecutor(1) as beside:
        toolchain = beside.submit(make_toolchain, folder / "toolchain")
        database = postgres(folder, free_port())
        services += [database[0]] if database else []
        say("Prefect's server on PostgreSQL" if database else "no PostgreSQL here: SQLite")
        port, s3_port = free_port(), free_port()
        services += s3_server(folder, s3_port)
        services.append(prefect_server(folder, port, database[1] if database else None))
        s3, server = services[-2:]
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
        python = toolchain.result()
        endpoint = f"http://127.0.0.1:{s3_port}"
        origin = make_origin(folder, f"s3://{BUCKET}/store", python, endpoint)
    machines = {target: make_machine(folder, origin, target) for target in TARGETS}
    for machine in machines.values():
        deploy(machine)
        machine.worker.start()
        services.append(machine.worker)
    api = Api(os.environ["PREFECT_API_URL"])
    say(f"three workers: {', '.join(machines)}")
    return Fleet(folder, origin, api, server, s3, machines, python)


def make_toolchain(folder: Path) -> Path:
    """An environment with the older TensorRT-RTX."""
    run(Path(), sys.executable, "-m", "venv", str(folder))
    python = folder / "bin/python"
    install(python, OLD)
    return python


def install(python: Path, version: str) -> None:
    """Install a TensorRT-RTX into an environment."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(Path(), *pip, f"tensorrt-rtx-cu13=={version}")


def deploy(machine: Machine) -> None:
    """What docs/fleet.md says, for each kind of machine."""
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    variables = {"ENGINERY_POOL": machine.target}
    for pool in {machine.target, "promote"}:
        line = ("work-pool", "create", "--type", "process", "--overwrite", pool)
        run(machine.clone, *prefect, *line)
    run(machine.clone, *prefect, "deploy", "--all", **variables)


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
    push_level(fleet, target, 4)
    clones = [fleet.folder / f"twin-{number}" for number in (1, 2)]
    for clone in clones:
        run(fleet.folder, "git", "clone", "--quiet", str(fleet.origin), str(clone))
    line = f"from flows.build import build_engines; build_engines(targets=['{target}'], share=True)"
    prepare = f"from enginery.fleet.checkout import use_checkout; use_checkout('.'); {line}"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda clone: run(clone, sys.executable, "-c", prepare), clones))
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


def versions(fleet: Fleet) -> set[tuple[str, int]]:
    """The newest version of each fp16 engine in the registry, by target."""
    listed = json.loads(enginery(fleet.machines[CHANGED].clone, "published", "--json"))
    return {(each["target"], each["version"]) for each in listed if each["precision"] == "fp16"}


def kills(fleet: Fleet) -> None:
    """The worker, the server and the remote die in the middle of a rebuild; it is done in the end,
    once, whatever it was.
    """
    victims = {
        "worker": fleet.machines[CHANGED].worker,
        "server": fleet.server,
        "remote": fleet.s3,
    }
    for number, (name, victim) in enumerate(victims.items(), 1):
        began, level = time.monotonic(), number
        push_level(fleet, CHANGED, level)
        before = len(fleet.api.runs(f"build-{CHANGED}"))
        fleet.api.start(f"watch/watch-{CHANGED}")
        begun = lambda: running_build(fleet, before)  # noqa: B023, E731
        fleet.api.until(begun, "a build that runs")
        victim.kill()
        time.sleep(3)
        victim.start()
        finish(fleet, level)
        say(f"{name} killed in a rebuild: it is published after {time.monotonic() - began:.0f} s")


def push_level(fleet: Fleet, target: str, level: int) -> None:
    """A member of the team changes an option of one target's builds."""
    first = fleet.folder / "first"

    def edit(params: dict[str, dict[str, dict[str, object]]]) -> None:
        params["targets"][target]["optimization_level"] = level

    change_yaml(first / "params.yaml", edit)
    enginery(first, "status")
    run(first, "git", "commit", "--quiet", "--all", "-m", f"Level {level}")
    run(first, "git", "push", "--quiet", str(fleet.origin), "main")


def running_build(fleet: Fleet, before: int) -> bool:
    """Whether a build that was started after so many others is at work."""
    runs = fleet.api.runs(f"build-{CHANGED}")[before:]
    return any(run["state"]["type"] == "RUNNING" for run in runs)


def finish(fleet: Fleet, level: int) -> None:
    """Tell it again, as a worker does that starts, until the engines of a level are published."""
    clone = fleet.machines[CHANGED].clone
    end = time.monotonic() + 240
    while time.monotonic() < end:
        fleet.api.until(lambda: fleet.api.get("/health"), "the server")
        parameters = {"targets": [CHANGED], "again": True}
        fleet.api.ended(fleet.api.start(f"watch/watch-{CHANGED}", **parameters), 120)
        if is_published(clone, level):
            return
        time.sleep(5)
    raise TimeoutError(f"the engines of level {level} were not published")


def is_published(clone: Path, level: int) -> bool:
    """Whether the newest version of an engine was built with this level."""
    name = f"fusion/{CHANGED}/fp16"
    run(clone, "git", "fetch", "--quiet", "origin", "engines")
    manifest = json.loads(run(clone, "git", "show", f"FETCH_HEAD:{name}/manifest.json"))
    parameters = manifest["steps"]["build"]["recipe"]["parameters"]
    return bool(parameters.get("optimization_level") == level)


def expect(value: object, expected: object) -> None:
    """Raises: AssertionError: it is another value."""
    if value != expected:
        raise AssertionError(f"{value} is not {expected}")


def say(title: str, text: str = "") -> None:
    """One more thing that was shown."""
    print(f"* {title}", *filter(None, [text.rstrip()]), sep="\n", flush=True)


if __name__ == "__main__":
    main()
