"""What params.yaml no longer asks for: registered engines, their builds and their reports."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enginery.project.engine_name import EngineName
from enginery.project.paths import BUILDS, ENGINES, METRICS, REPORTS
from enginery.registry.store import engine_folders


@dataclass(frozen=True)
class Remains:
    """All that lies about of an engine that nothing asks for."""

    name: EngineName
    paths: tuple[Path, ...]
    megabytes: float


def retired(asked_for: Collection[EngineName]) -> list[Remains]:
    """What lies about of engines that params.yaml does not ask for, by name."""
    paths: dict[EngineName, list[Path]] = {}
    for name, path in _engine_paths():
        if name not in asked_for:
            paths.setdefault(name, []).append(path)
    return [
        Remains(name, tuple(found), sum(map(_bytes, found)) / 1e6)
        for name, found in sorted(paths.items())
    ]


def remove(remains: Remains) -> None:
    """Delete it, and the folders of its target and model if nothing else is in them."""
    for path in remains.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for folder in path.parents[:2]:
            _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    """DVC may have left a list of what git should ignore there."""
    if [inner.name for inner in folder.iterdir()] == [".gitignore"]:
        (folder / ".gitignore").unlink()
    with suppress(OSError):  # not empty
        folder.rmdir()


def _engine_paths() -> Iterator[tuple[EngineName, Path]]:
    for folder in (*engine_folders(ENGINES), *engine_folders(BUILDS)):
        yield EngineName.of(folder), folder
    for report in sorted(path for room in (METRICS, REPORTS) for path in room.glob("*/*/*.json")):
        name = EngineName.of(report.with_suffix(""))
        if name.possible:
            yield name, report


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())
