"""What a command is going to write into a project: first collected, then checked, then written.

If a part cannot be written, all that was is taken away again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from enginery.errors import EngineryError
from enginery.project.template import IGNORE
from enginery.system.files import atomic_write

Track = Callable[[Path, list[str]], None]


@dataclass
class Draft:
    """Files of a project by name: `files` with their content, `copies` with where they come from
    (of data that no file holds, with their content); `tracked` are the files and folders that DVC
    shall keep.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    copies: dict[str, Path | bytes] = field(default_factory=dict)
    tracked: list[str] = field(default_factory=list)
    replaced: frozenset[str] = frozenset()  # those of `files` that may be there already

    def check(self, root: Path) -> None:
        """Look for files in the way, and for folders that cannot be written.

        Raises:
            EngineryError: there is one.
        """
        for name in sorted({*self.files, *self.copies} - self.replaced):
            if os.path.lexists(root / name):
                cure = "Move it away, or choose another folder or --name"
                raise EngineryError(f"{root / name} is in the way", cure)
        for folder in sorted({_existing((root / name).parent) for name in self._names()}):
            if not folder.is_dir():
                raise EngineryError(f"{folder} is in the way: a folder is needed", "Move it away")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise EngineryError(f"{folder} cannot be written", "Correct its rights")
        for source in self.copies.values():
            if isinstance(source, Path) and not os.access(source, os.R_OK):
                raise EngineryError(f"{source} cannot be read", "Correct its rights")

    def write(self, root: Path, track: Track, last: str) -> None:
        """Write everything, let DVC track its part, then write the file `last`.

        Raises:
            EngineryError: something could not be written; nothing is left of the rest.
        """
        with _taken_back_on_error(self._new_paths(root), self._changed_files(root)):
            for name, source in self.copies.items():
                _copy(source, root / name)
            for name, content in self.files.items():
                if name != last:
                    write_bytes(root / name, content)
            if self.tracked:
                track(root, self.tracked)
            write_bytes(root / last, self.files[last])

    def _names(self) -> tuple[str, ...]:
        return (*self.files, *self.copies)

    def _ignore_files(self, root: Path) -> list[Path]:
        """Where `dvc add` writes which names git shall ignore."""
        return sorted({(root / name).with_name(IGNORE) for name in (IGNORE, *self.tracked)})

    def _changed_files(self, root: Path) -> list[Path]:
        return [*self._ignore_files(root), *(root / name for name in sorted(self.replaced))]

    def _new_paths(self, root: Path) -> list[Path]:
        """The topmost paths that are not there yet, with what DVC writes beside tracked ones."""
        beside = [f"{name}.dvc" for name in self.tracked]
        paths = [root / name for name in (*self._names(), *beside)] + self._ignore_files(root)
        return list(dict.fromkeys(_topmost_new(path) for path in paths if not path.exists()))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def _copy(source: Path | bytes, path: Path) -> None:
    # Not `replacing`, which waits for the disk: a data set has thousands of files, in a new folder.
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        shutil.copyfile(source, path)


@contextmanager
def _taken_back_on_error(new: list[Path], changed: list[Path]) -> Iterator[None]:
    kept = {path: path.read_bytes() for path in changed if path.is_file()}
    try:
        yield
    except BaseException:
        for path in new:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for path, content in kept.items():
            path.write_bytes(content)
        raise


def _topmost_new(path: Path) -> Path:
    while not path.parent.exists():
        path = path.parent
    return path


def _existing(folder: Path) -> Path:
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder
