"""The main job's figures, as a table: nothing to do (flow with a running server, dvc repro), a full
build, and memory.

    .venv/bin/python benchmarks/main_job.py

Works in a clone of this checkout in a temporary folder, with this environment. Each figure is the
median of RUNS runs.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

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


def start_server(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A Prefect server at PREFECT_API_URL, ready."""
    url = environment["PREFECT_API_URL"]
    port = url.rsplit(":", 1)[1].split("/")[0]
    command = [PYTHON, "-m", "prefect", "server", "start", "--port", port]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while True:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return server
        except OSError:
            time.sleep(0.3)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {
            **os.environ,
            "PREFECT_HOME": temporary,
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        }
        flow, repro = [PYTHON, "-m", "enginery", "build"], [PYTHON, "-m", "dvc", "repro"]
        offline = {key: value for key, value in environment.items() if key != "PREFECT_API_URL"}
        rows = [("nine engines from nothing, own server", timed(flow, clone, offline))]
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        server = start_server(environment)
        try:
            idle = statistics.median(timed(flow, clone, environment) for _ in range(RUNS))
            rows.append(("nothing to do, flow with a running server", idle))
        finally:
            server.terminate()
            server.wait()
        rows.append(
            (
                "nothing to do, dvc repro",
                statistics.median(timed(repro, clone, environment) for _ in range(RUNS)),
            )
        )
    for name, seconds in rows:
        print(f"| {name} | {seconds:.1f} s |")
    print(f"| largest process of the full build | {peak:.0f} MiB |")


if __name__ == "__main__":
    sys.exit(main())
