"""How this machine does the work: which toolchain and GPU each target uses, and the time limits.

The fingerprint step writes it, builds read it, and no step depends on it: nothing in it may shape
an output. It also tells the next run what this machine could build.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from enginery.errors import EngineryError
from enginery.gpu.inventory import Gpu, gpus
from enginery.project.params import Spec, default_time_limit
from enginery.project.paths import WORKPLACE
from enginery.system.files import make_way, read_json, write_json
from enginery.toolchain.selection import Choice


class ToolchainInUse(BaseModel):
    """The toolchain and the GPU with which this machine builds for a target.

    `visible` is the only GPU that the toolchain's child process sees: an index or a UUID.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    python: Path
    gpu: Gpu | None
    visible: str | None
    time_limit_s: int


class SourceTrust(BaseModel):
    """How far this machine trusts a model's source: the digest that it must have, and whether its
    weights may run code. Of what is loaded, neither changes a byte.
    """

    model_config = ConfigDict(frozen=True)

    sha256: str | None = None
    trusted: bool = False


@dataclass(frozen=True)
class Workplace:
    """What the file says; nothing where there is none."""

    values: Mapping[str, Any]

    def time_limit(self, step: str) -> int:
        """After how many seconds a step is stopped."""
        return int(self.values.get("time_limit_s", {}).get(step, default_time_limit(step)))

    def source_trust(self, model: str) -> SourceTrust:
        """How far a model's source is trusted.

        Raises:
            EngineryError: the fingerprint step has not run.
        """
        try:
            return SourceTrust.model_validate(self.values["sources"][model])
        except (KeyError, TypeError, ValidationError):
            raise _unsaid(f"whether the source of {model} is trusted") from None

    def toolchain(self, target: str) -> ToolchainInUse:
        """What this machine builds with for a target.

        Raises:
            EngineryError: the fingerprint step has not found it here.
        """
        try:
            return ToolchainInUse.model_validate(self.values["targets"][target]["toolchain"])
        except (KeyError, TypeError, ValidationError):
            raise _unsaid(f"how this machine builds for {target}") from None


def _unsaid(what: str) -> EngineryError:
    cure = "Run the fingerprint step first: dvc repro fingerprint"
    return EngineryError(f"{WORKPLACE} does not say {what}", cure)


def read_workplace() -> Workplace:
    """The file, or an empty one where it is missing or not as we write it."""
    with suppress(OSError, ValueError):
        values = read_json(WORKPLACE)
        if isinstance(values, dict):
            return Workplace(values)
    return Workplace({})


def was_buildable(spec: Spec, target: str) -> bool:
    """Whether this machine could build for a target at its last run, with the same toolchain and
    GPU asked for.
    """
    return bool(_targets().get(target, {}).get("asked") == _asked(spec, target))


def save_workplace(spec: Spec, choices: Mapping[str, Choice]) -> None:
    """Write down with what this machine builds for these targets; of the others, what was known."""
    known = {name: values for name, values in _targets().items() if name in spec.targets}
    targets = {name: _target(spec, name, choice) for name, choice in choices.items()}
    values = {
        "gpus": [asdict(gpu) for gpu in gpus()],
        "targets": {**known, **targets},
        "sources": {
            name: SourceTrust(sha256=model.sha256, trusted=model.trusted).model_dump()
            for name, model in spec.models.items()
        },
        "time_limit_s": dict(spec.time_limit_s),
    }
    make_way(WORKPLACE)
    write_json(WORKPLACE, values)


def _target(spec: Spec, name: str, choice: Choice) -> dict[str, Any]:
    toolchain = ToolchainInUse(
        name=choice.name,
        python=choice.python,
        gpu=choice.gpu,
        visible=choice.visible,
        time_limit_s=spec.targets[name].time_limit_s,
    )
    return {
        "asked": _asked(spec, name),
        "toolchain": toolchain.model_dump(mode="json"),
        "runtime": asdict(choice.info),
    }


def _targets() -> dict[str, Any]:
    targets = read_workplace().values.get("targets")
    if not isinstance(targets, dict):
        return {}
    return {name: values for name, values in targets.items() if isinstance(values, dict)}


def _asked(spec: Spec, name: str) -> dict[str, Any]:
    target = spec.targets[name]
    toolchain = spec.toolchains.get(target.toolchain or "")
    return {
        **target.chosen("version", "compute_capability", "gpu"),
        "python": toolchain.python if toolchain else None,
    }
