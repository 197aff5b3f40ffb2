"""The main job's figures, as a table: nothing to do (flow with a running server, dvc repro), a full
build, and memory.

    .venv/bin/python -m benchmarks.main_job

Works in a clone of this checkout in a temporary folder, with this environment. Each figure is the
median of RUNS runs.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scale import with_server
from benchmarks.trouble.checkouts import prefect_server

ROOT = Path(__file__).resolve().parents[1]
RUNS = 3
PYTHON = str(ROOT / ".venv/bin/python")


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds that a command takes; it must succeed."""
    began = time.monotonic()
    subprocess.run(
        command,
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        flow, repro = [PYTHON, "-m", "enginery", "build"], [PYTHON, "-m", "dvc", "repro"]
        offline = {**with_server(""), "PREFECT_HOME": temporary}
        rows = [("nine engines from nothing, own server", timed(flow, clone, offline))]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        with prefect_server() as url:
            environment = with_server(url)
            idle = statistics.median(timed(flow, clone, environment) for _ in range(RUNS))
            rows.append(("nothing to do, flow with a running server", idle))
        rows.append(
            (
                "nothing to do, dvc repro",
                statistics.median(timed(repro, clone, offline) for _ in range(RUNS)),
            )
        )
    for name, seconds in rows:
        print(f"| {name} | {seconds:.1f} s |")
    print(f"| largest process of the full build | {peak:.0f} MiB |")


if __name__ == "__main__":
    sys.exit(main())
