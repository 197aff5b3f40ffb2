"""Files and folders that are whole or absent: digests, and writing through a temporary name and
`os.replace`.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from enginery.errors import DiskFullError
from enginery.project.inputs import plain_files

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NUMPYS = re.compile(r"\d+ requested and \d+ written")
_HERE, _RENAME_EXCHANGE = -100, 2  # of Linux: AT_FDCWD, and renameat2's flag


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hex digest over a folder's files: relative names (sorted) and contents; times and the
    folder's own name don't count.

    Raises:
        DataError: there is more in it than files, or a link to a folder.
    """
    digest = hashlib.sha256()
    for path in sorted(plain_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place on success and vanishes on failure.

    Once it has taken the place, not even a power cut takes it back or leaves it half-written.

    Raises:
        DiskFullError: there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _room(path, partial):
            yield partial
            _sync(partial)
            os.replace(partial, path)
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` once all is written and vanishes on failure.

    Both change places at once where the file system can do that: then there is no moment without
    one of them.

    Raises:
        DiskFullError: there is no room for it.
    """
    _sweep(folder)
    partial, old = (
        folder.with_name(f".{folder.name}.{which}{os.getpid()}.part") for which in ("", "old.")
    )
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with _room(folder, partial):
            partial.mkdir(parents=True)
            yield partial
            _sync_tree(partial)
            if not _exchange(partial, folder):
                with suppress(FileNotFoundError):
                    folder.replace(old)  # a folder takes the place of an empty one only
                partial.replace(folder)
            _sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder below `folder` for what is as large as a data set, and no longer
    needed afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder / "scratch")
    with tempfile.TemporaryDirectory(
        dir=folder, prefix=".scratch.", suffix=f".{os.getpid()}.part"
    ) as name:
        yield Path(name)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder where TMPDIR says, for what is small and no longer needed afterwards.

    Raises:
        DiskFullError: there is no room in it, whatever else is being written meanwhile.
    """
    try:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
    except OSError as error:
        if not is_full(error):
            raise
        cure = "Free some space there, or set TMPDIR to a folder that has some, then run again"
        raise DiskFullError(Path(tempfile.gettempdir()), cure) from None


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room to write."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _FULL or bool(_NUMPYS.fullmatch(str(error)))  # NumPy's has no number


def _sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(root, name))
        _sync(Path(root))


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places at once; False where one is missing, or the system or its file
    system cannot do that.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(
        rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _RENAME_EXCHANGE) == 0
    )


def sweep_below(folder: Path) -> None:
    """Remove what writers anywhere below a folder left behind that were killed outright."""
    for partial in sorted(filter(_is_left_behind, folder.rglob("*.part"))):
        name, aside, _ = partial.name[1:].rpartition(".old.")
        _clear(partial, partial.with_name(name) if aside and partial.is_dir() else None)


def _sweep(path: Path) -> None:
    """The same for writers of `path`."""
    every = path.parent.glob(f".{glob.escape(path.name)}.*.part")
    for partial in sorted(filter(_is_left_behind, every)):
        _clear(partial, path if partial.name.startswith(f".{path.name}.old.") else None)


def _clear(partial: Path, place: Path | None) -> None:
    """Remove what a writer left; a folder that it had put aside from its place is put back if there
    is none.
    """
    if place and not place.exists():
        partial.replace(place)
    elif partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        partial.unlink(missing_ok=True)


def _is_left_behind(partial: Path) -> bool:
    """Whether the process whose number a partial name ends with is no more."""
    pid = partial.name.split(".")[-2]
    return pid.isdecimal() and not Path(f"/proc/{pid}").exists()


@contextmanager
def _room(path: Path, partial: Path) -> Iterator[None]:
    """Errors of a full disk name `path`, whose name until then is of no use to anybody, or what
    else was being written.
    """
    try:
        yield
    except DiskFullError as error:
        if not error.path.is_relative_to(partial):
            raise
        raise DiskFullError(path) from None
    except OSError as error:
        if not is_full(error):
            raise
        named = error.filename if isinstance(error.filename, str | bytes) else os.fspath(partial)
        culprit = Path(os.fsdecode(named))
        own = culprit.absolute().is_relative_to(partial.absolute())
        raise DiskFullError(path if own else culprit) from None


def dumps(value: Any) -> str:
    """Sorted, indented JSON with a final newline; NaN is refused."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; a file that already says so keeps its time, so that nobody re-reads
    it.
    """
    data = dumps(value).encode()
    if path.is_file() and path.read_bytes() == data:
        return
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def make_way(path: Path) -> None:
    """Remove a folder that lies where a file of Enginery's own belongs."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
