"""One child process of a toolchain: start it, follow it, turn how it ended into a result or one clear error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from enginery.errors import (
    BuildError,
    ChildCrashed,
    ChildTimeout,
    DataError,
    EngineError,
    EngineryError,
    GpuError,
    IntegrityError,
    RefitError,
    ToolchainError,
)
from enginery.processes import stop_group

PROGRAM = Path(__file__).with_name("child")
OnEvent = Callable[[Mapping[str, Any]], None]
_KEPT_MESSAGES, _KEPT_NOISE = 6, 2


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
            try:
                self._follow(process)
            except BaseException:
                stop_group(process, grace_s=0)
                raise
            finally:
                timer.cancel()
            noise.seek(0)
            self.last.extend(line.strip() for line in noise.readlines()[-_KEPT_NOISE:] if line.strip())
        return self._judge(process.returncode, time_limit)

    def _start(self, noise: IO[str]) -> subprocess.Popen[str]:
        command = [str(self.python), str(PROGRAM)]
        try:
            return subprocess.Popen(
                command, env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, text=True, errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            what = f"toolchain interpreter {self.python} cannot be started: {error.strerror}"
            raise ToolchainError(what, "Correct its path under toolchains in params.yaml, or make the environment") from None

    def _environment(self) -> dict[str, str]:
        """With one GPU to see: the request's, counted as NVIDIA's own tools count."""
        gpu = self.request.get("gpu")
        chosen = {"CUDA_VISIBLE_DEVICES": gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpu is not None else {}
        return {**os.environ, **chosen}

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
        try:
            event = json.loads(line)
        except ValueError:
            self.last.append(line.strip())
            return
        if event["event"] in ("result", "error"):
            self.ending = event
            return
        if event["event"] == "log":
            self.last.append(event["message"])
            if event["severity"] == "warning":
                self.warnings.append(event["message"])
        self.on_event(event)

    def _expire(self, process: subprocess.Popen[str]) -> None:
        self.expired = True
        stop_group(process, grace_s=0)

    def _judge(self, code: int, time_limit: float) -> dict[str, Any]:
        doing = f"{self.request['do']} with {self.request['runtime']}"
        last = f" Its last words: {' | '.join(self.last)}" if self.last else ""
        if self.ending.pop("event", "") == "result":
            return self.ending
        if self.ending:
            raise self._refusal(doing)
        if self.expired:
            raise ChildTimeout(f"{doing} was stopped at its time limit of {time_limit:g} s", f"Raise time_limit_s of the target.{last}")
        raise ChildCrashed(f"{doing}: the child {_ending(code)} without a result", f"Nothing else is lost; run again.{last}")

    def _refusal(self, doing: str) -> EngineryError:
        kind, message, request = self.ending["kind"], self.ending["message"], self.request
        plan, graph = request.get("plan", ""), request.get("onnx", "")
        # What it means, what happened, what to do.
        meanings: dict[str, tuple[type[EngineryError], str, str]] = {
            "toolchain": (ToolchainError, f"{self.python}: {message}", f"Install {request['runtime']} there, or name another toolchain"),
            "memory": (BuildError, f"{doing}: out of memory: {message}", "Use smaller shapes or a smaller workspace_mib"),
            "parameter": (BuildError, f"{doing}: {message}", "Correct the target in params.yaml"),
            "data": (DataError, f"{doing}: {message}", "Add images, or make the batch smaller"),
            "gpu": (GpuError, f"{doing}: the GPU failed: {message}", "Look at nvidia-smi and the kernel's log, then run again"),
            "refit": (RefitError, f"{doing}: {message}", "Build it"),
            "integrity": (IntegrityError, f"{plan}: {message}; it was not loaded", "Run `enginery build`: it restores the plan"),
            "engine": (
                EngineError, f"{plan} does not run here: {message}", "An engine runs on the GPU and with the TensorRT it was built for",
            ),
            "file": (ToolchainError, f"{doing}: {message}", "Free some space or correct the path, then run again"),
            "parse": (BuildError, f"{request['runtime']} cannot parse {graph}: {message}", "The graph must be changed"),
            "profile": (BuildError, f"{request['runtime']} refused the profile of {graph}: {message}", "The graph must be changed"),
            "build": (BuildError, f"{request['runtime']} could not build {graph}: {message}", "The graph must be changed"),
        }
        error, what, cure = meanings[kind]
        return error(what, cure)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", often a sign of too little memory," if name == "SIGKILL" else "")
