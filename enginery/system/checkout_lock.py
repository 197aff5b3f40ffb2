"""One run at a time in a checkout.

The lock is the kernel's: it goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enginery.errors import BusyError, DiskFullError, EngineryError
from enginery.system.files import is_full

LOCK = Path(".dvc/tmp/enginery.lock")


@contextmanager
def checkout_lock() -> Iterator[None]:
    """Hold the checkout's lock.

    Raises:
        BusyError: another run holds it; says which process.
        DiskFullError: there is no room for its number.
        EngineryError: this folder is no checkout.
    """
    try:
        LOCK.parent.mkdir(exist_ok=True)
    except FileNotFoundError:  # DVC would take one that is made here for a project without settings
        what = f"{Path.cwd()} is no DVC project: it has no .dvc"
        raise EngineryError(
            what, "Run this in the checkout's folder, or take .dvc from git again"
        ) from None
    with LOCK.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = f"another run (process {file.read().strip()})"
            raise BusyError(f"{who} is at work in this checkout", "Wait for it to end") from None
        file.truncate(0)
        try:
            os.write(
                file.fileno(), str(os.getpid()).encode()
            )  # what a buffer keeps would fail again when it is closed
        except OSError as error:
            if not is_full(error):
                raise
            raise DiskFullError(LOCK) from None
        yield
