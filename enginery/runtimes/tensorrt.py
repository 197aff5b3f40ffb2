"""TensorRT 8.5 to 11: builds on the GPU that an engine is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.errors import ExcludedTargetError

if TYPE_CHECKING:
    from enginery.project.target import Target
    from enginery.toolchain.requests import ToolchainInfo
    from enginery.toolchain.selection import Choice

OLDEST = (8, 5)


@dataclass(frozen=True)
class Need:
    """The feature of TensorRT that an option needs, and the versions that have it; empty: all."""

    feature: str
    versions: str = ""

    @property
    def cure(self) -> str:
        """What to do where a toolchain has it not."""
        return f"leave it out, or use TensorRT {self.versions}" if self.versions else "leave it out"


NEEDS = {  # by an option of a target
    "optimization_level": Need("optimization level", "8.6 or later"),
    "strongly_typed": Need("strong typing", "10"),
    "sparsity": Need("sparsity"),
    "version_compatible": Need("version compatible", "8.6 or later"),
    "hardware_compatible": Need("hardware compatible", "8.6 or later"),
    "refittable": Need("refit"),
    "dla_core": Need("DLA", "10"),
}


class TensorRt:
    """See `enginery.runtimes.interface.Runtime`."""

    name, title, on_own_gpu = "tensorrt", "TensorRT", True

    def mistakes(self, name: str, target: Target, info: ToolchainInfo) -> Iterator[str]:
        """What this version lacks."""
        what = f"{info.runtime} {info.version}"
        if tuple(map(int, info.version.split(".")[:2])) < OLDEST:
            yield f"targets.{name}: {what} is too old; 8.5 to 11 are supported"
        for key in target.chosen(*NEEDS):
            need = NEEDS[key]
            if need.feature not in info.features:
                yield f"targets.{name}.{key}: {what} has no {need.feature}: {need.cure}"
        if target.output == "detections" and "EfficientNMS" not in info.features:
            lacks = f"{what} has no plugin EfficientNMS"
            yield f"targets.{name}.output: 'detections': {lacks}: leave it out"
        if target.calibration == "native" and "calibrators" not in info.features:
            lacks = f"{what} has no calibrators"
            cure = "use `portable`, whose ranges become Q/DQ nodes"
            yield f"targets.{name}.calibration: 'native': {lacks}: {cure}"

    def builds_for(self, name: str, target: Target, choice: Choice) -> Mapping[str, Any]:
        """The GPU at hand.

        Its UUID is not part of it: another card of the same kind runs the same engine.
        """
        from enginery.toolchain.selection import no_gpu

        info, capability = choice.info, target.compute_capability
        if not info.gpus:
            raise no_gpu(name, choice)
        gpu = info.gpus[0]
        if capability and capability != gpu["compute_capability"]:
            has = f"the GPU here, {gpu['gpu']}, has {gpu['compute_capability']}"
            why = f"it is for compute capability {capability}, and {has}"
            cure = "Run this on a machine with such a GPU, or correct the target in params.yaml"
            raise ExcludedTargetError(name, why, cure)
        typed = {} if "weak typing" in info.features else {"strongly_typed": True}
        return {"compute_capability": gpu["compute_capability"], "gpu": gpu["gpu"], **typed}

    def check_plan(self, path: Path, digest: str, compute_capability: str | None) -> None:
        """Its plans say nothing of themselves: the digest is all there is."""
        from enginery.toolchain.plan import check_digest

        check_digest(path, digest)

    def install_cure(self, machine: str) -> str:
        """It is there for every machine."""
        return "Install tensorrt there, or name another toolchain"


RUNTIME = TensorRt()
