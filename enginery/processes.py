"""How processes end: this one by SIGTERM or SIGHUP, and child processes that lead a session of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from types import FrameType


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does: what is half done is taken away again.

    So does a terminal that is closed (SIGHUP), unless `nohup` or the like says to go on.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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
