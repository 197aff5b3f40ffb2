"""All errors that Enginery raises on purpose, as one tree. Each says what happened, the cause and
what to do, in one line.

EngineryError
├── ConfigError                 params.yaml: all mistakes at once
├── ModelError                  weights or an ONNX graph that cannot be used
├── DataError                   images or labels that cannot be used
├── ToolchainError              a toolchain that is missing, broken or too old
│   ├── MissingInterpreterError the toolchain is not on this machine
│   ├── VersionMismatchError    it is, and has another TensorRT than the target's
│   ├── BuildError              TensorRT refused the graph, or the plan is not what was asked for
│   ├── EngineError             a plan that TensorRT does not load or run on this GPU
│   ├── RefitError              weights that do not fit a plan
│   ├── ChildCrashedError       the child program ended without a result
│   └── ChildTimeoutError       the child program was stopped at its time limit
├── GpuError                    a GPU that is not there, has no room, or fails
├── ExcludedTargetError         a target for another machine of the fleet
│   └── TargetLostError         a target that this machine could build, and cannot any more
├── IntegrityError              a file whose digest is not the one recorded
│   └── SignatureError          a file of the team's registry without a signature that counts
├── RegistryError               the team's registry cannot be reached, or does not take a change
├── NothingFitsError            no published engine runs on this host
├── DamagedFileError            a JSON file of Enginery's own that is not whole
├── DiskFullError               no room for a file
├── GateError                   an engine's graph failed its validation
├── MissingExtraError           a command needs a library that an extra brings
├── BusyError                   another run works in the same checkout
└── ServerError                 no Prefect server answers
    └── ServerLostError         it answered when the run began
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard


class EngineryError(Exception):
    """The base: `what` happened (with where and why) and the `cure`."""

    def __init__(self, what: str, cure: str = "") -> None:
        super().__init__(f"{what}. {cure}" if cure else what)
        self.what = what
        self.cure = cure


class ConfigError(EngineryError):
    """Everything that is wrong with a configuration; `mistakes` has one line each."""

    def __init__(self, where: str, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        lines = "".join(f"\n  {mistake}" for mistake in mistakes)
        super().__init__(
            f"{where}: {len(mistakes)} mistake{'s' if len(mistakes) != 1 else ''}{lines}"
        )


class ModelError(EngineryError):
    """Weights or an ONNX graph that cannot be used."""


class DataError(EngineryError):
    """Images or labels that cannot be used."""


class ToolchainError(EngineryError):
    """A toolchain that is missing, broken or too old."""


class MissingInterpreterError(ToolchainError):
    """The toolchain's interpreter is no file here: it is on another machine, if anywhere."""


class VersionMismatchError(ToolchainError):
    """The toolchain works, and has another version of TensorRT than the target asks for."""


class BuildError(ToolchainError):
    """TensorRT refused the graph, or the plan is not what was asked for."""


class EngineError(ToolchainError):
    """A plan that TensorRT does not load or run on this GPU."""


class RefitError(ToolchainError):
    """Weights that do not fit a plan: it must be built."""


class ChildCrashedError(ToolchainError):
    """The child program ended without a result."""


class ChildTimeoutError(ToolchainError):
    """The child program was stopped at its time limit."""


class GpuError(EngineryError):
    """A GPU that is not there, has no room, or fails."""


class ExcludedTargetError(EngineryError):
    """A target of runtime `tensorrt` whose toolchain or GPU is not here: for another machine; `why`
    says what is missing.
    """

    def __init__(self, target: str, why: str, cure: str) -> None:
        super().__init__(f"target {target}: {why}", cure)
        self.why = why


class TargetLostError(ExcludedTargetError):
    """A target whose toolchain or GPU was here at the last run."""


def is_elsewhere(error: object) -> TypeGuard[ExcludedTargetError]:
    """Whether a target is excluded only because another machine builds for it."""
    return isinstance(error, ExcludedTargetError) and not isinstance(error, TargetLostError)


class IntegrityError(EngineryError):
    """A file whose digest is not the one recorded."""


class SignatureError(IntegrityError):
    """An engine of the team's registry that nobody signed whose signature counts."""


class RegistryError(EngineryError):
    """The team's registry cannot be reached or read, or does not take a change."""


class NothingFitsError(EngineryError):
    """No engine of the team's registry runs on this host."""


class DamagedFileError(EngineryError):
    """A JSON file of Enginery's own that is not whole; `reason` goes on after its name."""

    def __init__(
        self, path: Path, reason: str, cure: str = "Run `enginery build`: it is made again"
    ) -> None:
        super().__init__(f"{path} {reason}", cure)
        self.reason = reason


class DiskFullError(EngineryError):
    """No room for a file: `path` lies on the file system that is full."""

    def __init__(self, path: Path, cure: str = "Free some space, then run again") -> None:
        super().__init__(f"no room to write {path}", cure)
        self.path = path


class GateError(EngineryError):
    """An engine's graph failed its validation."""


class MissingExtraError(EngineryError):
    """A command needs a library that is not installed: `extra` brings it."""

    def __init__(self, package: str, extra: str) -> None:
        what = f"this needs {package}, which is not installed here"
        super().__init__(what, f"Install the extra: pip install 'enginery[{extra}]'")
        self.extra = extra


class BusyError(EngineryError):
    """Another run works in the same checkout."""


class ServerError(EngineryError):
    """Prefect's server does not answer, or is none."""


class ServerLostError(ServerError):
    """Prefect's server answered when the run began, and does not any more."""
