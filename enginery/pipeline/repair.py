"""What a killed DVC leaves behind is set right before it is opened again, without losing what was
built.

DVC writes dvc.lock and its list of locks in place: a kill leaves them cut. Its cache and run-cache
are written through temporary names or copied, and keep what was half done.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from enginery.errors import BusyError, EngineryError
from enginery.pipeline.lockfile import LOCK_FILE, committed
from enginery.system.files import atomic_write, sweep_below

Say = Callable[[str], None]
_TMP = Path(".dvc/tmp")
KEPT = _TMP / "dvc.lock.kept"
_DAMAGED = _TMP / "dvc.lock.damaged"
_RWLOCK = _TMP / "rwlock"
_SWEPT = _TMP / "swept"
_CACHE = Path(".dvc/cache")
RUNS = _CACHE / "runs"
_DVC_PARTIAL = re.compile(r".*\.[\w-]{22}\.tmp")
_OWN_PARTIAL = re.compile(
    r"\..*\.(\d+)\.part"
)  # as enginery.system.files names them, with the writer's process


def repair(root: Path, say: Say) -> None:
    """Set right what a killed run left; `say` is told in one line what was damaged.

    Raises:
        BusyError: a DVC that was started by hand is at work.
        EngineryError: dvc.lock holds a merge conflict, or is no file.
    """
    if not (root / ".dvc").is_dir():
        return
    with _dvc_lock(root):
        _repair_rwlock(root)
        _repair_lock_file(root, say)
        _sweep(root)


def write_lock(root: Path, content: bytes) -> None:
    """Write dvc.lock, and the copy from which one that a killed DVC cut is repaired."""
    _write(root / LOCK_FILE, content)
    if (root / ".dvc").is_dir():  # a lock file of a project's sub-folder has no copy
        _write(root / KEPT, content)


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(content)


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def damage(content: bytes) -> str:
    """What is wrong with a lock file, as DVC itself would read it; empty if nothing is."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml
    from voluptuous import Invalid

    if not content.strip():
        return "it is empty"
    try:
        value = COMPILED_LOCKFILE_SCHEMA(parse_yaml(content.decode("utf-8"), str(LOCK_FILE)))
    except (YAMLFileCorruptedError, Invalid, UnicodeDecodeError):
        return "it is cut short or altered"
    return "" if content.endswith(b"\n") and _ends_whole(value) else "it is cut short"


def _ends_whole(value: Mapping[str, Any]) -> bool:
    """Whether the last line that DVC writes of a stage is there, as far as the others tell."""
    stages = list(value.get("stages", {}).values())
    last = [entry for kind in ("deps", "outs") for entry in (stages or [{}])[-1].get(kind, ())][-1:]
    return bool(stages) and all(entry.keys() & {"size", "nfiles"} for entry in last)


def _repair_lock_file(root: Path, say: Say) -> None:
    path = root / LOCK_FILE
    if path.exists() and not path.is_file():  # a folder may hold what somebody needs
        cure = f"Move it away; take {LOCK_FILE} from git again, or let the next run write it"
        raise EngineryError(f"{LOCK_FILE} is no plain file", cure)
    content = _read(path)
    if content is None or content == _read(root / KEPT):
        return
    wrong = damage(content)
    if not wrong:
        _write(root / KEPT, content)
        return
    if b"<<<<<<< " in content:
        cure = f"Resolve it (`git checkout --ours {LOCK_FILE}` or --theirs), then run again"
        raise EngineryError(f"{LOCK_FILE} holds a merge conflict", cure)
    _write(root / _DAMAGED, content)
    whole = next((copy for copy in _replacements(root) if not damage(copy[1])), None)
    if whole:
        source, content = whole
        write_lock(root, content)
    else:
        source = "taken away"
        path.unlink()
    say(
        f"{LOCK_FILE} was damaged ({wrong}) and is {source}; what was built since is restored from "
        "DVC's cache"
    )


def _replacements(root: Path) -> Iterator[tuple[str, bytes]]:
    kept = _read(root / KEPT)
    if kept is not None:
        yield "as the last step that ended well left it", kept
    content = committed(root)
    if content is not None:
        yield "as it was committed last", content


@contextmanager
def _dvc_lock(root: Path, name: str = "lock") -> Iterator[None]:
    """DVC's own lock of the checkout, whose holder alone writes dvc.lock; or its lock of another
    file.
    """
    from dvc.lock import LockError, make_lock

    (root / _TMP).mkdir(parents=True, exist_ok=True)
    try:
        with make_lock(str(root / _TMP / name), tmp_dir=str(root / _TMP)):
            yield
    except LockError:
        raise BusyError(
            "a DVC command is at work in this checkout", "Wait for it to end, then run again"
        ) from None


def _repair_rwlock(root: Path) -> None:
    """Take out of DVC's list of locks those of processes that ended, and remove one that is
    half-written.

    DVC takes any process with the number of a killed one for that one, and waits for it for ever.
    """
    path = root / _RWLOCK
    with _dvc_lock(root, "rwlock.lock"):
        try:
            locks = json.loads(path.read_text(encoding="utf-8"))
            live = {kind: _live(holders) for kind, holders in locks.items()}
        except FileNotFoundError:
            return
        except (ValueError, TypeError, AttributeError, KeyError):
            path.unlink()
            return
        if live != locks:
            with atomic_write(path) as partial:
                partial.write_text(json.dumps(live), encoding="utf-8")


def _live(locks: Mapping[str, Any]) -> dict[str, Any]:
    """The locks of one kind, by path, whose processes are at work; reading,
    several may hold one.
    """
    live: dict[str, Any] = {}
    for path, held in locks.items():
        if isinstance(held, list):
            readers = [holder for holder in held if _at_work(holder["pid"], holder["cmd"])]
            live.update({path: readers} if readers else {})
        elif _at_work(held["pid"], held["cmd"]):
            live[path] = held
    return live


def _at_work(pid: int, command: str) -> bool:
    """Whether the process with this number is the one that had it: its arguments tell, its first
    word may differ (`-m`).
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0")
    except OSError:
        return False
    return words.replace("\0", " ").endswith(command.partition(" ")[2])


def _sweep(root: Path) -> None:
    """Remove what writers that were killed left in DVC's folders and in artifacts/."""
    sweep_below(root / "artifacts")
    for folder in (root / _TMP, root / _CACHE / "files", root / "artifacts"):
        for path in [path for path in folder.rglob("*") if _is_left(path)]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    _sweep_runs(root)


def _is_left(path: Path) -> bool:
    """Whether a path is DVC's temporary file, while DVC's lock is held, or one of ours, whose
    writer has ended.
    """
    ours = _OWN_PARTIAL.fullmatch(path.name)
    return (
        not Path(f"/proc/{ours[1]}").exists() if ours else bool(_DVC_PARTIAL.fullmatch(path.name))
    )


def _sweep_runs(root: Path) -> None:
    """Remove half-written entries of DVC's run-cache, of those that are new: DVC would stumble over
    them, or believe them.
    """
    stamp = root / _SWEPT
    since = stamp.stat().st_mtime if stamp.is_file() else 0.0
    now = time.time()
    for entry in (root / RUNS).glob("*/*/*"):
        if _is_left(entry) or (entry.stat().st_mtime >= since and not is_whole(entry)):
            entry.unlink()
    for folder in (root / RUNS).glob("*/*"):
        with suppress(OSError):  # it holds entries
            folder.rmdir()
    stamp.touch()
    os.utime(stamp, (now, now))


def is_whole(entry: Path) -> bool:
    """Whether an entry of DVC's run-cache says what its name is the digest of."""
    from dvc.utils import dict_sha256
    from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml

    try:
        value = parse_yaml(entry.read_text(encoding="utf-8"), str(entry))
        return bool(dict_sha256(value, exclude=["size", "nfiles"]) == entry.name)
    except (YAMLFileCorruptedError, ValueError, TypeError):
        return False
