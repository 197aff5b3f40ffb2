"""Files and folders that are whole or absent: digests, and writing through a temporary name and `os.replace`."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from enginery.errors import DiskFullError
from enginery.inputs import plain_files

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hex digest over a folder's files: relative names (sorted) and contents; times and the folder's own name don't count.

    Raises:
        DataError: there is more in it than files, or a link to a folder.
    """
    digest = hashlib.sha256()
    for path in sorted(plain_files(folder)):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place on success and vanishes on failure.

    Raises:
        DiskFullError: there is no room for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _room(path):
            yield partial
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` once all is written and vanishes on failure.

    Raises:
        DiskFullError: there is no room for it.
    """
    _sweep(folder)
    partial, old = (folder.with_name(f".{folder.name}.{which}{os.getpid()}.part") for which in ("", "old."))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with _room(folder):
            partial.mkdir(parents=True)
            yield partial
            with suppress(FileNotFoundError):
                folder.replace(old)  # a folder takes the place of an empty one only
            partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder below `folder` for what is as large as a data set, and no longer needed afterwards."""
    _sweep(folder / "scratch")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch.", suffix=f".{os.getpid()}.part") as name:
        yield Path(name)


def _sweep(path: Path) -> None:
    """Remove what writers of `path` left behind that were killed outright."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        pid = partial.name.split(".")[-2]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


@contextmanager
def _room(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, DiskFullError) as error:  # the outermost name counts: the others are temporary
        if isinstance(error, OSError) and error.errno not in _FULL:
            raise
        raise DiskFullError(f"no room to write {path}", "Free some space, then run again") from None


def dumps(value: Any) -> str:
    """Sorted, indented JSON with a final newline; NaN is refused."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; a file that already says so keeps its time, so that nobody re-reads it."""
    text = dumps(value)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
