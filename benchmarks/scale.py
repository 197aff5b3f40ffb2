"""How a run grows: one model, many targets, three precisions; from nothing, with nothing to do.

    .venv/bin/python -m benchmarks.scale [--targets 3 30] [--against REV] [--runs 3]

Each figure is of a clone of this checkout in a temporary folder, with this environment. `--against`
measures another revision side by side, and prints the ratio. Memory is the largest sum of resident
sets of the run's processes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from benchmarks.trouble.checkouts import prefect_server

ROOT = Path(__file__).resolve().parents[1]
PYTHON = str(ROOT / ".venv/bin/python")
CAPABILITIES = ("8.6", "8.9", "12.0")
COMMANDS = {
    "nothing to do": ("enginery", "build"),
    "nothing to do, `dvc repro`": ("dvc", "repro"),
    "`status`": ("enginery", "status"),
    "`list`": ("enginery", "list"),
    "`--help`": ("enginery", "--help"),
}


@dataclass(frozen=True)
class Figure:
    """One measurement: seconds, and for a build the largest sum of memory in MiB."""

    seconds: float
    mebibytes: float = 0.0


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, nargs="+", default=[3, 30])
    parser.add_argument("--against", metavar="REV", help="another revision to measure beside")
    parser.add_argument("--runs", type=int, default=3, help="of each short command; their median")
    args = parser.parse_args()
    revisions = [revision for revision in (args.against, "HEAD") if revision]
    for targets in args.targets:
        figures = {revision: measure(revision, targets, args.runs) for revision in revisions}
        print("\n".join(table(targets, figures)), flush=True)
    return 0


def measure(revision: str, targets: int, runs: int) -> dict[str, Figure]:
    """All figures of one revision with so many targets."""
    with tempfile.TemporaryDirectory(prefix="enginery-scale-") as temporary:
        clone = cloned(revision, Path(temporary) / "clone")
        with_targets(clone, targets)
        with prefect_server() as url:
            environment = with_server(url)
            figures = {"from nothing": build(clone, environment)}
            for name, command in COMMANDS.items():
                seconds = [timed(command, clone, environment) for _ in range(runs)]
                figures[name] = Figure(statistics.median(seconds))
    return figures


def cloned(revision: str, folder: Path) -> Path:
    """A clone at a revision, with this environment."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "-q", revision], cwd=folder, check=True)
    (folder / ".venv").symlink_to((ROOT / ".venv").resolve())
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def with_targets(clone: Path, count: int) -> None:
    """Write so many targets into params.yaml."""
    path = clone / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["targets"] = {
        f"target-{number:04d}": {
            "runtime": "tensorrt_rtx",
            "compute_capability": CAPABILITIES[number % len(CAPABILITIES)],
        }
        for number in range(count)
    }
    params["matrix"]["targets"] = list(params["targets"])
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def build(clone: Path, environment: dict[str, str]) -> Figure:
    """Everything from nothing, while the memory of all its processes is watched."""
    began = time.monotonic()
    process = start(COMMANDS["nothing to do"], clone, environment)
    sums: list[float] = []
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, ended, sums))
    watch.start()
    code = process.wait()
    ended.set()
    watch.join()
    if code:
        raise SystemExit(f"the build in {clone} failed")
    return Figure(time.monotonic() - began, max(sums))


def _watch(pid: int, ended: threading.Event, sums: list[float]) -> None:
    session = psutil.Process(pid)
    while not ended.wait(0.5):
        total = 0
        for process in [session, *_children(session)]:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        sums.append(total / (1 << 20))


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def timed(command: tuple[str, ...], clone: Path, environment: dict[str, str]) -> float:
    """Seconds that a command takes; it must succeed."""
    began = time.monotonic()
    if start(command, clone, environment).wait():
        raise SystemExit(f"{' '.join(command)} in {clone} failed")
    return time.monotonic() - began


def start(
    command: tuple[str, ...], clone: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a Python module of the clone; what it says goes into a file beside it."""
    with (clone.parent / "said.txt").open("a") as said:
        line = [PYTHON, "-m", *command]
        return subprocess.Popen(line, cwd=clone, env=environment, stdout=said, stderr=said)


def with_server(url: str) -> dict[str, str]:
    """The environment of a command that uses a Prefect server, with this Python first."""
    path = f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PREFECT_API_URL": url}


def table(targets: int, figures: dict[str, dict[str, Figure]]) -> list[str]:
    """One row a figure, one column a revision, and the ratio of the last to the first."""
    revisions = list(figures)
    ratio = len(revisions) > 1
    head = [f"{targets * 3} engines", *revisions, *(["ratio"] if ratio else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in figures[revisions[0]]:
        each = [figures[revision][name] for revision in revisions]
        cells = [
            f"{one.seconds:.1f} s" + (f", {one.mebibytes:.0f} MiB" if one.mebibytes else "")
            for one in each
        ]
        if ratio:
            cells.append(f"{each[-1].seconds / each[0].seconds:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    sys.exit(main())
