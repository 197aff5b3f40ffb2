"""Which toolchain and which GPU a target uses: the toolchain it names, or the first that fits, this interpreter before the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from enginery import gpu
from enginery.errors import ToolchainError
from enginery.spec import THIS, THIS_INTERPRETER, Spec
from enginery.toolchain.client import probe
from enginery.toolchain.requests import ToolchainInfo


@dataclass(frozen=True)
class Choice:
    """A target's toolchain, and the GPU it works on (None where TensorRT needs none, or the driver lists none)."""

    name: str
    python: Path
    info: ToolchainInfo
    gpu: gpu.Gpu | None
    visible: str | None = None  # the only GPU that the child program may see


class Toolchains:
    """The toolchains of a specification; each is probed once."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._found: dict[tuple[Path, str, str | None], ToolchainInfo | ToolchainError] = {}

    @cached_property
    def known(self) -> dict[str, Path]:
        """Every interpreter, by name."""
        return {THIS: THIS_INTERPRETER, **{name: Path(found.python) for name, found in self._spec.toolchains.items()}}

    def choose(self, name: str) -> Choice:
        """What the target `name` uses.

        Raises:
            ToolchainError: no toolchain fits; each one's reason is given. GpuError: the GPU that it names is not here.
        """
        target = self._spec.targets[name]
        chosen = gpu.choose(target.gpu) if target.runtime == "tensorrt" else None
        wanted = None if target.gpu is None else str(target.gpu)
        visible = chosen.uuid if chosen else wanted  # where the driver lists none (Jetson, WSL), CUDA may still know it
        reasons = []
        for toolchain in [target.toolchain] if target.toolchain else self.known:
            try:
                info = self._probe(self.known[toolchain], target.runtime, visible)
            except ToolchainError as error:
                reasons.append(error)
                continue
            if _fits(info.version, target.version):
                return Choice(toolchain, self.known[toolchain], info, chosen, visible)
            reasons.append(ToolchainError(f"{toolchain} has {info.runtime} {info.version}, not {target.version}", "Add one that has it"))
        if len(reasons) == 1:
            raise reasons[0]
        what = f"target {name}: no toolchain fits: {'; '.join(reason.what for reason in reasons)}"
        raise ToolchainError(what, "`enginery toolchain add` makes one")

    def _probe(self, python: Path, runtime: str, visible: str | None) -> ToolchainInfo:
        key = (python, runtime, visible)
        if key not in self._found:
            try:
                self._found[key] = probe(*key)
            except ToolchainError as error:
                self._found[key] = error  # asked again for each target, a broken one would take its time each time
        found = self._found[key]
        if isinstance(found, ToolchainError):
            raise found
        return found


def _fits(version: str, wanted: str | None) -> bool:
    parts = wanted.split(".") if wanted else []
    return version.split(".")[: len(parts)] == parts
