"""Which toolchain and which GPU a target uses: the toolchain it names, or the first that fits, this interpreter before the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from enginery import gpu
from enginery.errors import ToolchainError
from enginery.spec import THIS_INTERPRETER, Spec, Target
from enginery.toolchain.client import probe
from enginery.toolchain.requests import ToolchainInfo

THIS = "this"  # the name of the environment's own interpreter as a toolchain


@dataclass(frozen=True)
class Choice:
    """A target's toolchain, and the GPU it works on (None where TensorRT needs none, or the driver lists none)."""

    name: str
    python: Path
    info: ToolchainInfo
    gpu: gpu.Gpu | None

    @property
    def visible(self) -> str | None:
        """The only GPU that the child program may see."""
        return self.gpu.uuid if self.gpu else None


class Toolchains:
    """The toolchains of a specification; each is probed once."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._infos: dict[tuple[Path, str, str | None], ToolchainInfo] = {}

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
        reasons = []
        for toolchain in [target.toolchain] if target.toolchain else self.known:
            try:
                info = self._probe(self.known[toolchain], target, chosen)
            except ToolchainError as error:
                reasons.append(error)
                continue
            if _fits(info.version, target.version):
                return Choice(toolchain, self.known[toolchain], info, chosen)
            reasons.append(ToolchainError(f"{toolchain} has {info.runtime} {info.version}, not {target.version}", "Add one that has it"))
        if len(reasons) == 1:
            raise reasons[0]
        what = f"target {name}: no toolchain fits: {'; '.join(reason.what for reason in reasons)}"
        raise ToolchainError(what, "`enginery toolchain add` makes one")

    def _probe(self, python: Path, target: Target, chosen: gpu.Gpu | None) -> ToolchainInfo:
        visible = chosen.uuid if chosen else None
        key = (python, target.runtime, visible)
        if key not in self._infos:
            self._infos[key] = probe(*key)
        return self._infos[key]


def _fits(version: str, wanted: str | None) -> bool:
    parts = wanted.split(".") if wanted else []
    return version.split(".")[: len(parts)] == parts
