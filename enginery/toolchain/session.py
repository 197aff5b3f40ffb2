"""A child of a toolchain that keeps an engine loaded, and answers one call after another."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from enginery.system.processes import stop_group
from enginery.toolchain.child_errors import refusal
from enginery.toolchain.process import Child, OnEvent, event_of
from enginery.toolchain.requests import PlanRequest

_ANSWERS = ("ready", "ran", "refused")
_GRACE_S = 10


class Session(Child):
    """The process; `ready` is what it said of its engine."""

    def __init__(
        self, python: Path, plan: PlanRequest, on_event: OnEvent, time_limit_s: float
    ) -> None:
        super().__init__(python, {**asdict(plan), "do": "serve"}, on_event)
        self._limit_s = time_limit_s
        self._noise = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process: subprocess.Popen[str] | None = None
        self.ready: Mapping[str, Any] = {}

    def open(self) -> None:
        """Start it and load the engine.

        Raises:
            IntegrityError: the plan is not the one recorded; it was not loaded.
            EngineError: TensorRT could not load it on this GPU.
            ChildCrashedError, ChildTimeoutError, ToolchainError: the child is not ready.
        """
        self._process = self._start(self._noise)
        self.ready = self.ask(self.request)

    def ask(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        """What it answers to a line.

        Raises:
            EngineError: the engine does not take these arrays.
            ChildCrashedError, ChildTimeoutError: it ended instead.
        """
        assert self._process is not None
        timer = threading.Timer(self._limit_s, self._expire, [self._process])
        timer.start()
        try:
            answer = self._answer(self._process, json.dumps(message, default=str))
        except BaseException:
            self.close(grace_s=0)
            raise
        finally:
            timer.cancel()
        if answer["event"] == "refused":
            raise refusal(self.python, self.request, answer)
        return answer

    def close(self, grace_s: float = _GRACE_S) -> None:
        """End it; the GPU's memory is free afterwards."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
            process.wait(grace_s)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            stop_group(process, grace_s=0)
        process.wait()
        self._noise.close()

    def _answer(self, process: subprocess.Popen[str], line: str) -> Mapping[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; how says why
        for said in process.stdout:
            event = event_of(said)
            if event and event["event"] in _ANSWERS:
                return event
            self._hear(said)
        process.wait()
        self._keep_noise(self._noise)
        self._judge(process.returncode, self._limit_s)
        raise AssertionError("a child that ends says why")
