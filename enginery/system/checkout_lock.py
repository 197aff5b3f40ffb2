"""One run at a time in a checkout.

The lock is the kernel's: it goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enginery.errors import BusyError

LOCK = Path(".dvc/tmp/enginery.lock")


@contextmanager
def only_run() -> Iterator[None]:
    """Hold the checkout's lock.

    Raises:
        BusyError: another run holds it; says which process.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = f"another run (process {file.read().strip()})"
            raise BusyError(f"{who} is at work in this checkout", "Wait for it to end") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
