"""One child process of a toolchain: start it, follow it, turn how it ended into a result or one
clear error.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from enginery.errors import MissingInterpreterError, ToolchainError
from enginery.system.environment import allowed
from enginery.system.processes import stop_group
from enginery.toolchain.child_errors import early_end, refusal

PROGRAM = Path(__file__).with_name("child")
OnEvent = Callable[[Mapping[str, Any]], None]
_KEPT_MESSAGES, _KEPT_NOISE = 6, 2
_running: set[subprocess.Popen[str]] = set()
_FIELDS = {
    "log": {"severity", "message"},
    "progress": {"phase", "step", "steps"},
    "result": {"event"},
    "error": {"kind", "message"},
    "ready": {"inputs", "outputs", "gpu"},
    "ran": {"files", "milliseconds"},
    "refused": {"kind", "message"},
}


class Child:
    """One child process and what it said."""

    def __init__(self, python: Path, request: Mapping[str, Any], on_event: OnEvent) -> None:
        self.python, self.request, self.on_event = python, request, on_event
        self.warnings: list[str] = []
        self.last: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        self.ending: dict[str, Any] = {}
        self.expired = False

    def result(self, time_limit: float) -> dict[str, Any]:
        """The fields of the child's result, or the error that its ending means."""
        with tempfile.TemporaryFile("w+", errors="replace") as noise:
            process = self._start(noise)
            timer = threading.Timer(time_limit, self._expire, [process])
            timer.start()
            _running.add(process)
            try:
                self._follow(process)
            except BaseException:
                stop_group(process, grace_s=0)
                raise
            finally:
                _running.discard(process)
                timer.cancel()
            self._keep_noise(noise)
        return self._judge(process.returncode, time_limit)

    def _keep_noise(self, noise: IO[str]) -> None:
        noise.seek(0)
        self.last.extend(line.strip() for line in noise.readlines()[-_KEPT_NOISE:] if line.strip())

    def _start(self, noise: IO[str]) -> subprocess.Popen[str]:
        command = [str(self.python), str(PROGRAM)]
        try:
            return subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            # Where it is there, its #! line or its link leads nowhere.
            absent = isinstance(
                error, FileNotFoundError | NotADirectoryError
            ) and not os.path.lexists(self.python)
            what = f"toolchain interpreter {self.python} cannot be started: {error.strerror}"
            kind = MissingInterpreterError if absent else ToolchainError
            raise kind(
                what, "Correct its path under toolchains in params.yaml, or make the environment"
            ) from None

    def _environment(self) -> dict[str, str]:
        """No credentials, and one GPU to see: the request's, counted as
        NVIDIA's own tools count.
        """
        gpu = self.request.get("gpu")
        chosen = (
            {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
            if gpu is not None
            else {}
        )
        return {**allowed(os.environ), **chosen}

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self.request, default=str))
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once; how it ended says why
        for line in process.stdout:
            self._hear(line)
        process.wait()

    def _hear(self, line: str) -> None:
        event = event_of(line)
        if not event:
            self.last.append(line.strip())
        elif event["event"] in ("result", "error"):
            self.ending = event
        else:
            if event["event"] == "log":
                self.last.append(event["message"])
                if event["severity"] == "warning":
                    self.warnings.append(event["message"])
            self.on_event(event)

    def _expire(self, process: subprocess.Popen[str]) -> None:
        self.expired = True
        stop_group(process, grace_s=0)

    def _judge(self, code: int, time_limit: float) -> dict[str, Any]:
        if self.ending.pop("event", "") == "result":
            return self.ending
        if self.ending:
            raise refusal(self.python, self.request, self.ending)
        raise early_end(
            self.python, self.request, self.last, None if self.expired else code, time_limit
        )


def stop_children() -> None:
    """End the children that other threads wait for."""
    for process in list(_running):
        stop_group(process, grace_s=0)


def event_of(line: str) -> dict[str, Any] | None:
    """A line as an event of the child program; None if something else printed it."""
    with suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and event.keys() >= _FIELDS.get(
            str(event.get("event")), {"no event"}
        ):
            return event
    return None
