"""What `enginery list` shows. To make it, every record of every engine is read and checked; it is
kept, and shown again as long as no file that it comes from has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import enginery
from enginery.project.paths import ARTIFACTS, ENGINES

if TYPE_CHECKING:
    from enginery.project.engine_name import EngineName

KEPT = Path(".dvc/tmp/enginery-list.json")
PARAMETERS = "params.yaml"
_SUFFIXES = (".json", ".plan")  # of what a listing is made from, below artifacts/
_LIBRARY = [
    path.as_posix()
    for room in ("registry", "report", "evaluation")
    for path in Path(enginery.__file__).with_name(room).glob("*.py")
]
_SETTLED_NS = 1_000_000_000  # a file may change again within one tick of the file system's clock


@dataclass(frozen=True)
class Listing:
    """Every registered engine, for programs and as rows for people, and notes below them."""

    summaries: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    notes: list[str]


def list_engines() -> Listing:
    """The listing of the current folder: the kept one, or one that is made and kept."""
    if not any(ENGINES.glob("*/*/*")):
        return Listing([], [], [])
    key, newest = _state()
    if kept := _read(key):
        return kept
    listing, is_whole = _make()
    if is_whole and time.time_ns() - newest > _SETTLED_NS:
        _keep(key, listing)
    return listing


def known_engines() -> set[EngineName] | None:
    """What params.yaml asks for; None if it has mistakes: looking at engines must always work."""
    from enginery.errors import ConfigError
    from enginery.project.load import load_spec

    try:
        return set(load_spec().engines())
    except ConfigError as error:
        print(f"Whether engines are retired cannot be told: {error}", file=sys.stderr)
        return None


def _make() -> tuple[Listing, bool]:
    """The listing, and whether it may be kept: a mistake in params.yaml is told each time."""
    from enginery.registry.store import entries
    from enginery.report.tables import engine_notes, engine_rows, listed

    registered = entries()
    asked_for = known_engines() if registered else None
    engines = listed(registered, asked_for)
    summaries = [engine.summary() for engine in engines]
    listing = Listing(summaries, engine_rows(engines), list(engine_notes(engines)))
    return listing, asked_for is not None


def _state() -> tuple[str, int]:
    """A digest of all that a listing is made from, by times, sizes and inodes; the latest time."""
    digest, newest = hashlib.sha256(enginery.__version__.encode()), 0
    for path in sorted([*_below(ARTIFACTS), *_LIBRARY, PARAMETERS]):
        with suppress(OSError):  # what is missing changes its folder's time
            state = os.stat(path)  # noqa: PTH116 # of thousands of files
            newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
            times = f"{state.st_mtime_ns} {state.st_ctime_ns}"
            digest.update(f"{path} {times} {state.st_size} {state.st_ino}\n".encode())
    return digest.hexdigest(), newest


def _below(folder: Path) -> Iterator[str]:
    """The folders, and the files that a listing is made from; what is being written has hidden
    names.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield parent
        yield from (f"{parent}/{name}" for name in files if name.endswith(_SUFFIXES))


def _read(key: str) -> Listing | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(KEPT.read_bytes())
        return Listing(**content["listing"]) if content["key"] == key else None
    return None


def _keep(key: str, listing: Listing) -> None:
    from enginery.errors import EngineryError
    from enginery.system.files import atomic_write

    if not KEPT.parents[1].is_dir():
        return  # without DVC's own folder a project has no place for it
    content = json.dumps({"key": key, "listing": asdict(listing)})
    with suppress(OSError, EngineryError), atomic_write(KEPT) as partial:
        partial.write_text(content, encoding="utf-8")
