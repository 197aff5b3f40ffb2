"""A full disk, as DVC says it: without the place. Here it gets one."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from enginery.errors import DiskFullError
from enginery.pipeline.lockfile import LOCK_FILE
from enginery.project.paths import ARTIFACTS
from enginery.system.files import is_full

_DVC = (Path(".dvc/cache"), Path(".dvc/tmp"))
_FULL = re.compile(r"\[Errno (28|122)\]|database or disk is full")


@contextmanager
def disk_full_guard(root: Path, others: Iterable[Path] = ()) -> Iterator[None]:
    """Inside, an error that says that a disk is full names the place with the least room.

    DVC writes below .dvc, dvc.lock, artifacts and TMPDIR; `others` are further places of a stage.

    Raises:
        DiskFullError: there is no room.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not any(is_full(one) or _FULL.search(str(one)) for one in _chain(error)):
            raise
        raise DiskFullError(_fullest(root, others)) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _fullest(root: Path, others: Iterable[Path]) -> Path:
    named = {path: root / path for path in (*_DVC, ARTIFACTS, *others)}
    named |= {LOCK_FILE: root, Path(tempfile.gettempdir()): Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(path).free for name, path in named.items() if path.exists()}
    return min(free, key=lambda name: free[name])  # of one file system, the first: DVC's cache
