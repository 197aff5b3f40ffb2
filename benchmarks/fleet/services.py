"""What a fleet needs beside its machines, on this one: an S3 server, PostgreSQL, Prefect's server.

Each is a process group of its own that is killed in the end, whatever happens.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_START_S = 180
BUCKET = "engines"


@dataclass
class Service:
    """A command that runs until it is killed, and can be started again."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user,
            )

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self._process is not None:
            for group in {self._process.pid, *_descendants(self._process.pid)}:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / f"{self.name}.log"


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def s3_server(folder: Path, port: int) -> list[Service]:
    """moto's S3 with an empty bucket, and the door to it, which listens at a port: moto keeps
    everything in memory, so only the door may be killed.
    """
    behind = free_port()
    moto = Service("s3", [sys.executable, "-m", "moto.server", "-p", str(behind)], folder)
    moto.start()
    await_answer(f"http://127.0.0.1:{behind}/moto-api/")
    httpx.put(f"http://127.0.0.1:{behind}/{BUCKET}").raise_for_status()
    line = [sys.executable, "-m", "benchmarks.fleet.proxy", str(port), str(behind)]
    door = Service("s3-door", line, folder)
    door.start()
    return [moto, door]


def postgres(folder: Path, port: int) -> tuple[Service, str] | None:
    """A PostgreSQL server with an empty database, and its URL; None where it is not installed."""
    if not POSTGRES:
        return None
    programs, user = POSTGRES[-1], "postgres" if os.getuid() == 0 else None
    data = folder / "postgres"
    data.mkdir()
    if user:
        shutil.chown(data, user)
    run = {"check": True, "stdout": subprocess.DEVNULL, "user": user, "cwd": data}
    subprocess.run([programs / "initdb", "-D", data, "-A", "trust", "-U", "prefect"], **run)
    line = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(data)]
    service = Service("postgres", line, folder, user=user)
    service.start()
    ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
    _await(lambda: subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0, "PostgreSQL")
    create = [programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "fleet"]
    subprocess.run(create, **run)
    return service, f"postgresql+asyncpg://prefect@127.0.0.1:{port}/fleet"


def prefect_server(folder: Path, port: int, database: str | None) -> Service:
    """Prefect's server, as `enginery server` starts it; on SQLite if no database is named."""
    variables = {"PREFECT_HOME": str(folder / "prefect")}
    if database:
        variables["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    command = [sys.executable, "-m", "enginery", "server", "--port", str(port)]
    service = Service("server", command, folder, variables)
    service.start()
    await_answer(f"http://127.0.0.1:{port}/api/health")
    return service


def await_answer(url: str) -> None:
    """Wait until a server answers."""

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(url, timeout=2).is_success
        return False

    _await(answers, url)


def _await(ready, what: str) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + _START_S
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} does not answer")
        time.sleep(0.2)


def _descendants(pid: int) -> list[int]:
    import psutil

    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(pid).children(recursive=True)
        return [child.pid for child in children if os.getpgid(child.pid) != os.getpgid(os.getpid())]
    return []


def log_tail(service: Service, lines: int = 15) -> str:
    """The end of what a service says."""
    file: IO[str]
    with service.log.open(encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-lines:])
