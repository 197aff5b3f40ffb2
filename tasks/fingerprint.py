"""fingerprint: check params.yaml against what this machine and its toolchains are, and write every step's recipe."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from enginery.errors import ConfigError, ToolchainError
from enginery.files import write_json
from enginery.gpu import gpus
from enginery.layout import MACHINE, Step
from enginery.recipes import recipes, write_recipes
from enginery.spec import PARAMS_FILE, load_spec
from enginery.toolchain.choice import Choice, Toolchains
from enginery.toolchain.features import mistakes
from tasks.command import run_step


def fingerprint(step: Step, targets: Collection[str] | None = None) -> None:
    """Write every step's recipe, and what this machine is; of some targets only, where only their toolchains must be here."""
    spec = load_spec()
    toolchains = Toolchains(spec)
    choices = {name: toolchains.choose(name) for name in spec.matrix.targets if targets is None or name in targets}
    asked = [mistake for name, choice in choices.items() for mistake in mistakes(name, spec.targets[name], choice.info)]
    if asked:
        raise ConfigError(str(PARAMS_FILE), asked)
    facts = {name: _facts(name, spec.targets[name].compute_capability, choice) for name, choice in choices.items()}
    write_recipes(recipes(spec, lambda name: facts[name], choices), spec)
    write_json(MACHINE, {"gpus": [asdict(gpu) for gpu in gpus()], "toolchains": {name: asdict(c.info) for name, c in choices.items()}})


def _facts(name: str, wanted: str | None, choice: Choice) -> dict[str, Any]:
    info = choice.info
    if wanted and wanted not in info.compute_capabilities:
        can = ", ".join(info.compute_capabilities)
        what = f"target {name}: {info.runtime} {info.version} cannot build for compute capability {wanted} on this machine"
        raise ToolchainError(what, f"It can build for {can}")
    return {"runtime": info.runtime, "runtime_version": info.version, "platform": info.platform, **_gpu(name, choice)}


def _gpu(name: str, choice: Choice) -> dict[str, Any]:
    """The GPU that a `tensorrt` target builds for. Its UUID is not part of it: another card of the same kind runs the same engine."""
    info = choice.info
    if info.runtime != "tensorrt":
        return {}
    if not info.gpus:
        what = f"target {name}: {info.runtime} {info.version} builds on its GPU, and this machine shows it none ({info.no_gpu})"
        raise ToolchainError(what, "Run this on the machine with the GPU, or take the target out of matrix.targets here")
    typed = {} if "weak typing" in info.features else {"strongly_typed": True}
    return {**{key: info.gpus[0][key] for key in ("compute_capability", "gpu")}, **typed}


if __name__ == "__main__":
    run_step("fingerprint", fingerprint)
