"""Which toolchain and which GPU a target uses: the toolchain it names, or the first that fits, this
interpreter before the others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from enginery import runtimes
from enginery.errors import (
    EngineryError,
    ExcludedTargetError,
    GpuError,
    MissingInterpreterError,
    ToolchainError,
    VersionMismatchError,
)
from enginery.gpu import inventory as gpu
from enginery.project.params import Spec
from enginery.project.target import OWN_INTERPRETER, OWN_TOOLCHAIN, Target
from enginery.toolchain.client import probe
from enginery.toolchain.process import stop_children
from enginery.toolchain.requests import ToolchainInfo


@dataclass(frozen=True)
class Choice:
    """A target's toolchain, and the GPU it works on (None where TensorRT needs none, or the driver
    lists none).
    """

    name: str
    python: Path
    info: ToolchainInfo
    gpu: gpu.Gpu | None
    visible: str | None = None  # the only GPU that the child program may see


class Toolchains:
    """The toolchains of a specification; each is probed once."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._probed: dict[tuple[Path, str, str | None], ToolchainInfo | ToolchainError] = {}
        self._probing = threading.Lock()

    @contextmanager
    def answering(self, targets: Iterable[str]) -> Iterator[None]:
        """Inside, the toolchains of these targets are asked beside what goes on there."""
        with ThreadPoolExecutor(1) as beside:
            beside.submit(self._ask, list(targets))
            try:
                yield
            except BaseException:
                stop_children()  # nobody waits for their answers
                raise

    def _ask(self, targets: Iterable[str]) -> None:
        for name in targets:
            with suppress(EngineryError):  # whoever chooses is told
                self.choose(name)

    @cached_property
    def known(self) -> dict[str, Path]:
        """Every interpreter, by name."""
        return {
            OWN_TOOLCHAIN: OWN_INTERPRETER,
            **{name: Path(toolchain.python) for name, toolchain in self._spec.toolchains.items()},
        }

    def choose(self, name: str) -> Choice:
        """What the target `name` uses.

        Raises:
            ExcludedTargetError: the toolchain or the GPU that it is for is not here.
            ToolchainError: no toolchain fits; each one's reason is given.
        """
        target = self._spec.targets[name]
        chosen = _gpu(name, target)
        named = None if target.gpu is None else str(target.gpu)
        visible = (
            chosen.uuid if chosen else named
        )  # where the driver lists none (Jetson, WSL), CUDA may still know it
        reasons: dict[str, ToolchainError] = {}
        for toolchain in [target.toolchain] if target.toolchain else self.known:
            try:
                info = self._probe(self.known[toolchain], target.runtime, visible)
            except ToolchainError as error:
                reasons[toolchain] = error
                continue
            if _fits(info.version, target.version):
                return Choice(toolchain, self.known[toolchain], info, chosen, visible)
            what = f"{toolchain} has {info.runtime} {info.version}, not {target.version}"
            reasons[toolchain] = VersionMismatchError(what, "Add one that has it")
        raise _refusal(name, target, reasons)

    def _probe(self, python: Path, runtime: str, visible: str | None) -> ToolchainInfo:
        key = (python, runtime, visible)
        with self._probing:
            if key not in self._probed:
                try:
                    self._probed[key] = probe(*key)
                except ToolchainError as error:  # asked for each target, it would take its time
                    self._probed[key] = error
            info = self._probed[key]
        if isinstance(info, ToolchainError):
            raise info
        return info


def absent(spec: Spec) -> frozenset[str]:
    """The toolchains of which this machine has no interpreter: it measures nothing with them."""
    return frozenset(
        name for name, toolchain in spec.toolchains.items() if not os.path.lexists(toolchain.python)
    )


def no_gpu(name: str, choice: Choice) -> EngineryError:
    """A toolchain that sees no GPU is on the wrong machine, unless the fault is its own or the
    driver lists the GPU.
    """
    info = choice.info
    why = (
        f"{info.runtime} {info.version} works on its GPU, and this machine shows it none "
        f"({info.no_gpu})"
    )
    if info.blind:
        return ToolchainError(
            f"target {name}: {why}", "Install NumPy and pycuda in the toolchain's environment"
        )
    if choice.gpu:
        here = f"though the driver lists {choice.gpu.name}"
        return ToolchainError(
            f"target {name}: {why}, {here}",
            "Is the driver too old for the toolchain's CUDA, or hidden by a container?",
        )
    return ExcludedTargetError(name, why, "Run this on the machine with the GPU")


def _gpu(name: str, target: Target) -> gpu.Gpu | None:
    if not runtimes.find(target.runtime).on_own_gpu:
        return None
    try:
        return gpu.choose(target.gpu, target.compute_capability)
    except GpuError as error:
        raise ExcludedTargetError(name, error.what, error.cure) from None


def _refusal(name: str, target: Target, reasons: Mapping[str, ToolchainError]) -> EngineryError:
    """Why none of the toolchains that a target may have is used."""
    first, *others = reasons.values()
    why, cure = first.what, first.cure
    if others:
        why, cure = (
            f"no toolchain fits: {'; '.join(reason.what for reason in reasons.values())}",
            "`enginery toolchain add` makes one",
        )
    if runtimes.find(target.runtime).on_own_gpu and _may_be_elsewhere(reasons):
        return ExcludedTargetError(name, why, cure)
    return ToolchainError(f"target {name}: {why}", cure)


def _may_be_elsewhere(reasons: Mapping[str, ToolchainError]) -> bool:
    """Some toolchains are not here, and those that are have other versions: none is broken.

    Nobody named Enginery's own as one of them.
    """
    kinds = {type(reason) for toolchain, reason in reasons.items() if toolchain != OWN_TOOLCHAIN}
    return MissingInterpreterError in kinds and kinds <= {
        MissingInterpreterError,
        VersionMismatchError,
    }


def _fits(version: str, asked: str | None) -> bool:
    parts = asked.split(".") if asked else []
    return version.split(".")[: len(parts)] == parts
