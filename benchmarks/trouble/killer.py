"""What follows a run and kills all of it at a moment, and what the run leaves then."""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from benchmarks.trouble.processes import below_me, kill_all

OUTCOME = re.compile(
    r"^(Completed|Restored|Cached|Failed|Skipped|Elsewhere)\s+(.*?)(?:  [\d.]+ s)?$"
)
IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x2, 0x8, 0x80, 0x100


@dataclass(frozen=True)
class Moment:
    """When to kill: after so many steps, or at the n-th writing of dvc.lock, and then `delay_s`."""

    kind: str
    after_steps: int = 0
    writing: int = 0
    delay_s: float = 0

    def __str__(self) -> str:
        if self.kind == "aimed":
            return f"writing {self.writing} of dvc.lock + {self.delay_s * 1000:.1f} ms"
        return f"{self.after_steps} steps + {self.delay_s:.2f} s"


class Killer:
    """Follows a run, and kills all of it at its moment."""

    def __init__(self, pid: int, moment: Moment, root: Path) -> None:
        self._pid, self._moment, self._steps = pid, moment, 0
        self.killed, self.during = 0, "the start"
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if moment.kind == "aimed":
            self._begin(lambda: self._watch(root))
        elif not moment.after_steps:
            self._begin(self._strike)

    def hear(self, line: str) -> None:
        """A line of the run."""
        match = OUTCOME.match(line)
        if match:
            self._steps += 1
            self.during = f"what follows {match[2]}"
            if self._moment.kind != "aimed" and self._steps == self._moment.after_steps:
                self._begin(self._strike)

    def stop(self) -> None:
        """The run has ended."""
        self._ended.set()
        if self._thread:
            self._thread.join()

    def _begin(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _strike(self) -> None:
        if self._ended.wait(self._moment.delay_s):
            return
        if self._moment.kind == "orphan":
            with suppress(ProcessLookupError):
                os.kill(self._pid, 9)
                self.killed = 1
            return
        stopped: dict[int, psutil.Process] = {}
        while new := [process for process in below_me() if process.pid not in stopped]:
            for process in new:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
                stopped[process.pid] = process
        self.killed = len(stopped)
        kill_all(list(stopped.values()))

    def _watch(self, root: Path) -> None:
        """Wait for dvc.lock's n-th writing; stop who writes it first of all."""
        writing, open_ = 0, False
        for kind in _changes(root, "dvc.lock", self._ended):
            if not open_ and kind & (IN_CREATE | IN_MODIFY | IN_MOVED_TO):
                writing += 1
                open_ = not kind & IN_MOVED_TO
                if writing == self._moment.writing:
                    if self._moment.delay_s:
                        time.sleep(self._moment.delay_s)
                    _stop_children(self._pid)
                    self._strike_now()
                    return
            if kind & IN_CLOSE_WRITE:
                open_ = False

    def _strike_now(self) -> None:
        self._moment = Moment("random")
        self._strike()


def _stop_children(pid: int) -> None:
    """Stop the children of a process: to look at all takes longer than dvc.lock is open."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(child), 19)


def _changes(folder: Path, name: str, ended: threading.Event) -> Iterator[int]:
    """What inotify says of the files in a folder that have `name` in theirs, as it happens."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    mask = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE
    if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(folder), mask) < 0:
        raise OSError(ctypes.get_errno(), "inotify")
    try:
        while not ended.is_set():
            if not select.select([watch], [], [], 0.2)[0]:
                continue
            data = os.read(watch, 1 << 16)
            while data:
                _, kind, _, length = struct.unpack_from("iIII", data)
                said, data = data[16 : 16 + length].rstrip(b"\0"), data[16 + length :]
                if name in os.fsdecode(said):
                    yield kind
    finally:
        os.close(watch)


def lock_state(lock: Path) -> str:
    """missing, empty, half or whole."""
    if not lock.is_file():
        return "missing"
    text = lock.read_text(errors="replace")
    if not text.strip():
        return "empty"
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return "half"
    whole = isinstance(found, dict) and isinstance(found.get("stages"), dict)
    whole = whole and all(
        isinstance(stage, dict) and "outs" in stage for stage in found["stages"].values()
    )
    return "whole" if whole else "half"


def in_cache(root: Path) -> set[str]:
    """The titles of the steps that DVC's run-cache names and whose outputs its cache holds."""
    held = set()
    for path in (root / ".dvc/cache/runs").glob("*/*/*"):
        with suppress(yaml.YAMLError, KeyError, TypeError):
            stage = yaml.safe_load(path.read_text())
            if all(_object(root, out["md5"]) for out in stage["outs"]):
                held.add(title_of(stage["cmd"]))
    return held


def _object(root: Path, digest: str) -> bool:
    path = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    if not path.is_file() or not digest.endswith(".dir"):
        return path.is_file()
    return all(_object(root, entry["md5"]) for entry in json.loads(path.read_text()))


def title_of(command: str) -> str:
    """What a run calls the step of a command line: build yolov8n fp16 for rtx-ada."""
    module, *parts = command.split()[2:]
    name = module.removeprefix("tasks.").replace("_", "-")
    if len(parts) == 3:
        return f"{name} {parts[0]} {parts[2]} for {parts[1]}"
    return " ".join([name, *parts])
