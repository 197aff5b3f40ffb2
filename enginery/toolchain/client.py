"""The orchestrator's side of a toolchain: start the child program, follow it, turn how it ended into a result or one clear error."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from enginery.errors import BuildError, ChildCrashed, ChildTimeout, EngineError, EngineryError, IntegrityError, ToolchainError
from enginery.files import replacing
from enginery.processes import stop_group
from enginery.toolchain.plan import check_built

CHILD = Path(__file__).with_name("child.py")
OnEvent = Callable[[Mapping[str, Any]], None]
_KEPT_MESSAGES = 6


@dataclass(frozen=True)
class ToolchainInfo:
    """What a toolchain is, as its own interpreter told."""

    runtime: str
    version: str
    python: str
    platform: str
    strongly_typed_only: bool
    calibrators: bool
    progress_monitor: bool
    timing_cache: bool
    compute_capabilities: tuple[str, ...]
    gpus: tuple[Mapping[str, Any], ...] = ()
    no_gpu: str = ""


@dataclass(frozen=True)
class BuildRequest:
    """One plan to build. `profile` maps an input to its shapes at min, opt and max; empty for static shapes.

    The fields from `precision` on are for weakly typed TensorRT: `cache` holds INT8's ranges (or, with `native_images`, a float32
    .npy (n, 3, height, width), is where TensorRT's own calibration writes them), `float_layers` stay in fp16, `timing_cache` is read
    and written.
    """

    runtime: str
    onnx: Path
    plan: Path
    name: str
    compute_capability: str | None = None
    profile: Mapping[str, Mapping[str, list[int]]] = field(default_factory=dict)
    workspace_mib: int | None = None
    optimization_level: int | None = None
    precision: str = "fp32"
    cache: Path | None = None
    float_layers: tuple[str, ...] = ()
    timing_cache: Path | None = None
    tactic_sources: tuple[str, ...] | None = None
    native_images: Path | None = None


@dataclass(frozen=True)
class MeasureRequest:
    """An engine to run on a GPU, on a float32 .npy of images (n, 3, height, width); its outputs go to `outputs`, a .npy each."""

    runtime: str
    plan: Path
    plan_sha256: str
    images: Path
    outputs: Path
    batch: int
    runs: int = 200
    cuda_graph: bool = True
    gpu: int = 0


@dataclass(frozen=True)
class BuildResult:
    """A plan that was built: digests, bytes, seconds, MiB, and TensorRT's warnings."""

    plan_sha256: str
    plan_bytes: int
    weights_sha256: str | None
    seconds: float
    peak_memory_mib: float
    runtime_version: str
    messages: tuple[str, ...]


def probe(python: Path, runtime: str, time_limit: float = 60) -> ToolchainInfo:
    """Ask a toolchain what it is.

    Raises:
        ToolchainError: the interpreter or its TensorRT is missing or broken.
    """
    facts = _Child(python, {"do": "probe", "runtime": runtime}, lambda event: None).result(time_limit)
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
    return ToolchainInfo(**fields)


def measure(python: Path, request: MeasureRequest, on_event: OnEvent, time_limit: float) -> dict[str, Any]:
    """Run an engine on every image and time it: milliseconds (p50, p90, p99, mean, min, max) on the GPU, with transfers, as a CUDA graph.

    Raises:
        IntegrityError: the plan is not the one recorded; it was not loaded.
        EngineError: TensorRT could not load or run it on this GPU.
        ChildCrashed, ChildTimeout, ToolchainError: the child did not come to a result.
    """
    return _Child(python, {**_plain(request), "do": "measure"}, on_event).result(time_limit)


def _plain(request: BuildRequest | MeasureRequest) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(request).items()}


def build(python: Path, request: BuildRequest, on_event: OnEvent, time_limit: float) -> BuildResult:
    """Build a plan in a fresh child process; `request.plan` appears whole and checked, or not at all.

    Raises:
        BuildError: TensorRT refused the graph or the profile.
        ChildCrashed, ChildTimeout, ToolchainError: the child did not come to a result.
    """
    with replacing(request.plan) as partial:
        fields = {**_plain(request), "do": "build", "plan": str(partial)}
        child = _Child(python, fields, on_event)
        facts = child.result(time_limit)
        check_built(partial, facts["plan_sha256"], request.runtime, request.compute_capability)
    return BuildResult(**facts, messages=tuple(child.warnings))


class _Child:
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
            self.last.extend(line.strip() for line in noise.readlines()[-_KEPT_MESSAGES:] if not self.last)
        return self._judge(process.returncode, time_limit)

    def _start(self, noise: IO[str]) -> subprocess.Popen[str]:
        command = [str(self.python), str(CHILD)]
        try:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, text=True, errors="replace", start_new_session=True
            )
        except OSError as error:
            what = f"toolchain interpreter {self.python} cannot be started: {error.strerror}"
            raise ToolchainError(what, "Correct its path under toolchains in params.yaml, or make the environment") from None

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self.request))
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
        kind, message = self.ending["kind"], self.ending["message"]
        if kind == "toolchain":
            return ToolchainError(f"{self.python}: {message}", f"Install {self.request['runtime']} there, or name another toolchain")
        if kind == "memory":
            return BuildError(f"{doing}: out of memory: {message}", "Use smaller shapes or a smaller workspace_mib")
        if kind == "parameter":
            return BuildError(f"{doing}: {message}", "Correct the target in params.yaml")
        if kind == "integrity":
            return IntegrityError(f"{self.request['plan']}: {message}; it was not loaded", "Run `enginery build`: it restores the plan")
        if kind == "engine":
            what = f"{self.request['plan']} does not run here: {message}"
            return EngineError(what, "An engine runs on the GPU and with the TensorRT it was built for")
        if kind == "file":
            return ToolchainError(f"{doing}: {message}", "Free some space or correct the path, then run again")
        where = {"parse": "cannot parse", "profile": "refused the profile of", "build": "could not build"}[kind]
        return BuildError(f"{self.request['runtime']} {where} {self.request['onnx']}: {message}", "The graph must be changed")


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (", often a sign of too little memory," if name == "SIGKILL" else "")
