"""A program beside a step that ends it at its time limit, from outside: a loop in C++ never gives
Python its turn.

It is started as `watchdog.py PID SECONDS FD LINE` and ends with the step, whose pipe is its
standard input. At the limit it lets the step write down where it stands (faulthandler answers the
signal), says LINE on FD, and kills the step with all below it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

STAND = signal.SIGUSR1  # where do you stand?
_ANSWER_S = 0.5


def main(pid: int, seconds: float, descriptor: int, line: str) -> None:
    """Wait for the end of the process or of its time."""
    ended, _, _ = select.select([sys.stdin], [], [], seconds)
    if ended:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, STAND)
        time.sleep(_ANSWER_S)
    with suppress(OSError):  # nobody reads it
        os.write(descriptor, f"{line}\n".encode())
    kill_tree(pid)


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started, sessions of their own included; this process is
    spared.
    """
    stopped: list[int] = []
    while more := sorted(_tree(pid) - {os.getpid(), *stopped}):
        for each in more:  # stopped first, so that none starts another meanwhile
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        stopped += more
    for each in stopped:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _tree(root: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            # The name of the program, in brackets, may hold anything.
            parents[int(stat.parent.name)] = int(
                stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            )
    tree = {root} & parents.keys()
    while below := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= below
    return tree


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
