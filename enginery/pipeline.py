"""DVC, reached through this one module: what is stale and why, reproducing one stage, and DVC's cache and remote.

Staleness is asked in process. A stale stage is reproduced by a child `dvc repro --single-item` in a session of its own,
so that its output can be read line by line and the whole group stopped at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from enginery.errors import BusyError, EngineryError
from enginery.inputs import check_plain
from enginery.layout import crash_log
from enginery.processes import stop_group
from enginery.report.events import VARIABLE
from enginery.tracebacks import unsaid

OnEvent = Callable[[Mapping[str, Any]], None]
_BUSY = ("is busy, it is being", "Unable to acquire lock")


class Pipeline:
    """The stages of one checkout."""

    def __init__(self, root: Path = Path()) -> None:
        self._root = root
        _heal(root / ".dvc/tmp/rwlock")
        self._open()

    def _open(self) -> None:
        self._stages: dict[str, Any] = {}
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            self._repo = Repo(str(self._root))
        except DvcException as error:
            raise EngineryError(f"{self._root.resolve()} is no DVC project: {error}", "Run this in the checkout's folder") from None

    def stale(self, address: str) -> str:
        """Why DVC finds a stage stale, in words; empty if it is up to date."""
        if not self._stages:  # parsing dvc.yaml and dvc.lock for each stage anew would take most of a run that has nothing to do
            self._stages = {stage.addressing: stage for stage in self._repo.stage.load_all("dvc.yaml")}
        for dependency in self._stages[address].deps:
            check_plain(Path(dependency.fs_path))  # DVC would wait for ever on a pipe, and not look behind a linked folder
        with self._repo.lock:
            status = self._stages[address].status(check_updates=False)
        return ", ".join(_words(change) for change in status.get(address, ()))

    def has_remote(self) -> bool:
        """Whether a default remote is configured."""
        return bool(self._repo.config["core"].get("remote"))

    def reproduce(self, address: str, on_event: OnEvent) -> str:
        """Reproduce one stage: "completed" if its command ran, "restored" if DVC had its outputs.

        Raises:
            BusyError: another process reproduces it.
            EngineryError: it failed; the step's own line says why.
        """
        pull = ["--pull"] if self.has_remote() else []
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", *pull, address]
        environment = {**os.environ, VARIABLE: "json", "PYTHONUNBUFFERED": "1"}
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True, cwd=self._repo.root_dir,
        )
        try:
            outcome = _follow(child, address, on_event)
        except BaseException:
            stop_group(child)
            raise
        self._repo.close()
        self._open()  # the child wrote dvc.lock: what was read of it is old
        return outcome


def _heal(lock: Path) -> None:
    """Remove a list of DVC's locks that a killed DVC left half-written: every later run would fail on it."""
    for last_try in (False, True):
        try:
            json.loads(lock.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            if last_try:
                lock.unlink(missing_ok=True)
            else:
                time.sleep(0.3)  # another DVC may be writing it just now
        else:
            return


def _follow(child: subprocess.Popen[str], address: str, on_event: OnEvent) -> str:
    started, error, others = False, "", []
    assert child.stdout is not None
    for line in child.stdout:
        event = _event(line)
        if event is None:
            others.append(line.strip())
        elif event["event"] == "started":
            started = True
        elif event["event"] == "error":
            error = event["message"]
        else:
            on_event(event)
    if child.wait():
        _raise(address, error, [line for line in others if line])
    return "completed" if started else "restored"


def _raise(address: str, error: str, lines: list[str]) -> None:
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    text = "; ".join(said or lines[-4:])
    if not error and any(words in text for words in _BUSY):
        raise BusyError(f"{address}: another run works on it", "Wait for it to end, then run again")
    if error:
        raise EngineryError(error)
    raise EngineryError(f"{address} failed: {unsaid(lines, text, crash_log(address)) or text or 'it said nothing'}")


def _event(line: str) -> Mapping[str, Any] | None:
    with suppress(ValueError):
        value = json.loads(line)
        if isinstance(value, dict) and "event" in value:
            return value
    return None


def _words(change: Any) -> str:
    if not isinstance(change, dict):
        return str(change)
    kinds = {"changed deps": "", "changed outs": "output "}
    parts = [f"{kinds.get(kind, '')}{path} {what}" for kind, files in change.items() for path, what in files.items()]
    return ", ".join(parts)
