"""The fleet of the demo: what runs on this machine, started and killed in the end."""

from __future__ import annotations

import os
import sys
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
from benchmarks.fleet.team import TARGETS, Machine, make_machine, make_origin, run

OLD, NEW = "1.6.1.120", "1.7.1.116"
CHANGED = "rtx-ada"  # the target whose TensorRT-RTX is upgraded


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


def expect(value: object, expected: object) -> None:
    """Raises: AssertionError: it is another value."""
    if value != expected:
        raise AssertionError(f"{value} is not {expected}")


def say(title: str, text: str = "") -> None:
    """One more thing that was shown."""
    print(f"* {title}", *filter(None, [text.rstrip()]), sep="\n", flush=True)
