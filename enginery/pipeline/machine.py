"""What this machine was at its last run: its GPUs, and the targets that it could build. No step
depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from enginery.gpu.inventory import gpus
from enginery.project.params import Spec
from enginery.project.paths import MACHINE
from enginery.system.files import read_json, write_json
from enginery.toolchain.requests import ToolchainInfo


def had(spec: Spec, target: str) -> bool:
    """Whether this machine could build a target at its last run, with the same toolchain and GPU
    asked for.
    """
    return bool(_targets().get(target, {}).get("asked") == _asked(spec, target))


def remember(spec: Spec, found: Mapping[str, ToolchainInfo]) -> None:
    """Write down the targets that this machine can build now; of those not asked about, what was
    known.
    """
    known = {name: facts for name, facts in _targets().items() if name in spec.targets}
    now = {
        name: {"asked": _asked(spec, name), "toolchain": asdict(info)}
        for name, info in found.items()
    }
    write_json(MACHINE, {"gpus": [asdict(gpu) for gpu in gpus()], "targets": {**known, **now}})


def _targets() -> dict[str, Any]:
    with suppress(OSError, ValueError, AttributeError):  # none yet, or not as we write it
        return {
            name: facts
            for name, facts in read_json(MACHINE).get("targets", {}).items()
            if isinstance(facts, dict)
        }
    return {}


def _asked(spec: Spec, name: str) -> dict[str, Any]:
    target = spec.targets[name]
    toolchain = spec.toolchains.get(target.toolchain or "")
    return {
        **target.chosen("version", "compute_capability", "gpu"),
        "python": toolchain.python if toolchain else None,
    }
