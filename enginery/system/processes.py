"""How processes end: this one by SIGTERM or at its time limit, and child processes that lead a
session of their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from enginery.system import watchdog


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: what is half done is taken away again.

    So does a terminal that is closed (SIGHUP), unless `nohup` or the like says to go on.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def time_limit(seconds: float, descriptor: int, line: str) -> Iterator[None]:
    """Inside, this process is killed with all that it started after so many seconds, and a line is
    said on a descriptor.

    A program of its own counts them: what hangs in C++ would answer no timer of Python's.
    """
    # -I -S: it needs nothing but Python itself. In a session of its own, Ctrl-C is not for it: it
    # ends with this process.
    command = [
        sys.executable,
        "-I",
        "-S",
        watchdog.__file__,
        *map(str, (os.getpid(), seconds, descriptor)),
        line,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield


def ending(code: int) -> str:
    """How a process ended, by its exit code: a negative one, or a shell's from
    129 on, is a signal.
    """
    try:
        name = signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return f"ended with exit code {code}"
    return f"was killed by {name}" + (
        " (often a sign of too little memory)" if name == "SIGKILL" else ""
    )


def stop_group(child: subprocess.Popen[str], grace_s: float = 10) -> None:
    """Ask a child's whole process group to end; after `grace_s` seconds make it."""
    if grace_s:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
