"""What a user names in params.yaml must be plain files, in folders without links to other folders;
else it is refused by name.

DVC reads all of it before a step runs. It does not look behind a linked folder, so changes there
make nothing stale. It waits for ever on a pipe or a device, and ends in an error of its own on a
link that leads nowhere. So inputs are checked before DVC is asked about them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from enginery.errors import DataError

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_plain(path: Path) -> None:
    """Look at a file, or at all that a folder holds; what is missing is for whoever reads it to
    say.

    Raises:
        DataError: as `plain_files`.
    """
    for _ in plain_files(path):
        pass


def plain_files(path: Path) -> Iterator[Path]:
    """A file itself, or every file below a folder. Both may be links, as files in the folder may.

    Raises:
        DataError: there is a pipe, socket, device, linked folder, broken link, or a name that is
        not UTF-8.
    """
    if not os.path.lexists(path):
        return
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        yield from _below(path)
    else:
        yield _plain(path, mode)


def _below(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(
            f"{_printable(folder)}: {error.strerror}", "Correct its rights, or remove it"
        ) from None
    for entry in entries:
        path = folder / entry.name
        if not _is_utf8(entry.name):
            raise DataError(
                f"{_printable(path)}: its name is not UTF-8, which DVC cannot record", "Rename it"
            )
        if entry.is_dir(follow_symlinks=False):
            yield from _below(path)
        elif entry.is_file(follow_symlinks=False):
            yield path
        else:
            yield _plain(path, _mode(path))


def _plain(path: Path, mode: int) -> Path:
    """The path, if it leads to a file."""
    if stat.S_ISDIR(mode):
        what = (
            f"{_printable(path)} is a link to the folder {path.resolve()}: DVC does not look "
            "behind it"
        )
        raise DataError(
            what, "Put the folder itself there, or make the data set's whole folder the link"
        )
    if not stat.S_ISREG(mode):
        raise DataError(
            f"{_printable(path)} is {_KINDS.get(stat.S_IFMT(mode), 'no file')}",
            "Remove it: only files are read",
        )
    return path


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        leads = (
            f"is a link to {path.readlink()}, which leads nowhere"
            if path.is_symlink()
            else "cannot be read"
        )
        raise DataError(
            f"{_printable(path)} {leads}: {error.strerror}", "Correct or remove it"
        ) from None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
