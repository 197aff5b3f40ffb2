"""fingerprint: check params.yaml, ask each target's toolchain what it is, and write every step's recipe."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from enginery.errors import ToolchainError
from enginery.layout import Step
from enginery.recipes import recipes, write_recipes
from enginery.spec import Spec, load_spec
from enginery.toolchain.client import ToolchainInfo, probe
from tasks.command import run_step


def fingerprint(step: Step) -> None:
    """Write the recipe of every step."""
    spec = load_spec()
    write_recipes(recipes(spec, _prober(spec)))


def _prober(spec: Spec) -> Any:
    @cache
    def ask(python: Path, runtime: str) -> ToolchainInfo:
        return probe(python, runtime)

    def of_target(name: str) -> dict[str, Any]:
        target = spec.targets[name]
        info = ask(spec.python_for(name), target.runtime)
        wanted = target.compute_capability
        if wanted and wanted not in info.compute_capabilities:
            can = ", ".join(info.compute_capabilities)
            what = f"target {name}: {info.runtime} {info.version} cannot build for compute capability {wanted} on this machine"
            raise ToolchainError(what, f"It can build for {can}")
        return {"runtime": info.runtime, "runtime_version": info.version, "platform": info.platform, **_gpu(name, info)}

    return of_target


def _gpu(name: str, info: ToolchainInfo) -> dict[str, Any]:
    """The GPU that a `tensorrt` target builds for: the first that its toolchain sees."""
    if info.runtime != "tensorrt":
        return {}
    if not info.gpus:
        what = f"target {name}: {info.runtime} {info.version} builds on its GPU, and this machine shows it none ({info.no_gpu})"
        raise ToolchainError(what, "Run this on the machine with the GPU, or take the target out of matrix.targets here")
    return {**{key: info.gpus[0][key] for key in ("compute_capability", "gpu")}, "strongly_typed": info.strongly_typed_only}


if __name__ == "__main__":
    run_step("fingerprint", fingerprint)
