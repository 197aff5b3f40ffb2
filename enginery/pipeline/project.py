"""What a step's parameters are made from: params.yaml, and what this machine's toolchains are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enginery.project.model import Model
from enginery.project.params import Int8, Spec
from enginery.project.stage import Stage
from enginery.project.target import Target


@dataclass(frozen=True)
class Project:
    """params.yaml; of each target that this machine can build for, its runtime, version, platform
    and GPU; and which stages come before each.
    """

    spec: Spec
    runtimes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    earlier: Mapping[Stage, tuple[Stage, ...]] = field(default_factory=dict)

    def before(self, stage: Stage) -> tuple[Stage, ...]:
        """All stages that a stage needs, and those that they need."""
        return self.earlier.get(stage, ())

    def model(self, stage: Stage) -> Model:
        """The model of a stage."""
        return self.spec.models[stage.model]

    def int8(self, stage: Stage) -> Int8:
        """How the model of a stage is quantized."""
        return self.spec.int8[stage.model]

    def target(self, stage: Stage) -> Target:
        """The target of a stage."""
        return self.spec.targets[stage.target]

    def runtime(self, stage: Stage) -> Mapping[str, Any]:
        """What the toolchain of a stage's target is, on this machine."""
        return self.runtimes[stage.target]
