"""Processes that a script starts: what they say, what they leave, and how they are stopped."""

from __future__ import annotations

import ctypes
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Ended:
    """How a command ended; the code is None if it was stopped at its limit.

    `lines` are those of both streams, each with the seconds at which it came.
    """

    code: int | None
    seconds: float
    lines: tuple[tuple[float, str], ...]

    @property
    def text(self) -> str:
        """All that it said."""
        return "\n".join(line for _, line in self.lines)

    def last(self, characters: int = 400) -> str:
        """What it said of its failures, or else its last words, as one line."""
        lines = [line for _, line in self.lines if line.strip()]
        failed = [number for number, line in enumerate(lines) if line.startswith("Failed")]
        chosen = dict.fromkeys(line for number in failed for line in lines[number : number + 2])
        text = " | ".join(line.strip() for line in chosen or lines)
        return text[:characters] if chosen else text[-characters:]


def follow(
    process: subprocess.Popen[bytes], limit: float, hear: Callable[[str], None] = lambda line: None
) -> Ended:
    """A command's lines until it ends; at the limit it is killed with all that it started.

    It has ended when its own process has: one that it left behind may hold the pipe open.
    """
    began, lines, rest = time.monotonic(), [], b""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            chunk = _read(process.stdout.fileno()) if ready.select(0 if ended else 0.1) else b""
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                lines.append((time.monotonic() - began, line.decode(errors="replace")))
                hear(lines[-1][1])
            if ended and not chunk:
                break
            if time.monotonic() - began > limit and not ended:
                kill_all(tree(process.pid))
                limit = float("inf")
    if rest:
        lines.append((time.monotonic() - began, rest.decode(errors="replace")))
    process.stdout.close()
    code = None if limit == float("inf") else process.wait()
    return Ended(code, time.monotonic() - began, tuple(lines))


def _read(pipe: int) -> bytes:
    try:
        data = os.read(pipe, 1 << 16)
    except BlockingIOError:
        return b""
    if not data:  # all ends of the pipe are closed: wait for the process itself
        time.sleep(0.05)
    return data


def adopt_orphans() -> None:
    """Become the parent of whatever the processes below this one leave behind."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def below_me() -> list[psutil.Process]:
    """All processes below this one that are alive."""
    return [process for process in tree(os.getpid())[1:] if _alive(process)]


def working_in(folder: Path) -> list[psutil.Process]:
    """The processes whose working folder is `folder` or below it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            place = Path(process.cwd())
            if process.pid != os.getpid() and place.is_relative_to(folder) and _alive(process):
                found.append(process)
    return found


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def kill_all(processes: list[psutil.Process]) -> None:
    """SIGKILL: all are stopped first, so that none sees another end."""
    for act in ("suspend", "kill"):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                getattr(process, act)()
    psutil.wait_procs(processes, 10)


def describe(processes: list[psutil.Process]) -> str:
    """Processes as a person tells them apart."""
    names = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            names.append(f"{process.pid} {' '.join(process.cmdline())[-80:]}")
    return "; ".join(names)


@contextmanager
def side_by_side(jobs: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for cases; Ctrl-C ends what they started, and begins nothing new."""
    pool = ThreadPoolExecutor(jobs)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        kill_all(below_me())
        raise
    pool.shutdown()
