"""TensorRT-RTX: builds on any machine, for the compute capabilities that it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enginery.errors import ToolchainError

if TYPE_CHECKING:
    from enginery.project.target import Target
    from enginery.toolchain.requests import ToolchainInfo
    from enginery.toolchain.selection import Choice


class TensorRtRtx:
    """See `enginery.runtimes.interface.Runtime`."""

    name, title, on_own_gpu = "tensorrt_rtx", "TensorRT-RTX", False

    def mistakes(self, name: str, target: Target, info: ToolchainInfo) -> Iterator[str]:
        """All that a target may ask of it, every version can."""
        yield from ()

    def builds_for(self, name: str, target: Target, choice: Choice) -> Mapping[str, Any]:
        """The compute capability that the target names; None: all that a portable plan runs on."""
        info, capability = choice.info, target.compute_capability
        if capability and capability not in info.compute_capabilities:
            cannot = f"cannot build for compute capability {capability} on this machine"
            what = f"target {name}: {info.runtime} {info.version} {cannot}"
            raise ToolchainError(what, f"It can build for {', '.join(info.compute_capabilities)}")
        return {"compute_capability": capability}

    def check_plan(self, path: Path, digest: str, compute_capability: str | None) -> None:
        """Its plans have a header that says what they are for."""
        from enginery.toolchain.plan import check_plan

        check_plan(path, digest, compute_capability)

    def install_cure(self, machine: str) -> str:
        """Its wheels are for x86_64 alone."""
        if machine == "x86_64":
            return "Install tensorrt_rtx there, or name another toolchain"
        return (
            f"TensorRT-RTX has no package for {machine}: build this target on an x86_64 machine, "
            "or give it `runtime: tensorrt`"
        )


RUNTIME = TensorRtRtx()
