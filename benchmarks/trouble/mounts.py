"""File systems of a size, and a home of its own, in this process's mount namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.trouble.checkouts import PYTHON, ROOT, workshop

ROOMY, PAGE = "2g", 4096


@contextmanager
def mounted(folder: Path, apart: list[Path]) -> Iterator[Callable[[int | None], None]]:
    """`folder` as a file system of its own; what yields makes so many bytes free in it, or plenty.

    The folders `apart`, below it, stay outside.
    """
    old = folder.with_name(f"{folder.name}.before")
    folder.mkdir(parents=True, exist_ok=True)
    folder.rename(old)
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(folder))
    outside = {path: old / path.relative_to(folder) for path in apart}
    skipped = {str(path) for path in outside.values()}

    def skip(where: str, names: list[str]) -> list[str]:
        return [name for name in names if str(Path(where) / name) in skipped]

    shutil.copytree(old, folder, symlinks=True, dirs_exist_ok=True, ignore=skip)
    for path, source in outside.items():
        path.mkdir()
        mount("--bind", str(source), str(path))

    def resize(free: int | None) -> None:
        state = os.statvfs(folder)
        used = (state.f_blocks - state.f_bfree) * state.f_frsize
        size = ROOMY if free is None else max(used + free, PAGE)
        mount("-o", f"remount,size={size}", str(folder))

    yield resize


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def hide_home() -> None:
    """Replace root's home, in this namespace, by one with only the interpreter, open to all."""
    base = Path(os.path.realpath(ROOT / PYTHON)).parents[1]
    home = Path.home()
    if not base.is_relative_to(home):
        return
    empty = workshop() / f"home-{os.getpid()}"
    inside = empty / base.relative_to(home)
    inside.mkdir(parents=True)
    mount("--bind", str(base), str(inside))
    mount("--rbind", str(empty), str(home))
