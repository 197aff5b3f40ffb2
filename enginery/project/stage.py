"""A stage: which step it runs, and for which model, target, precision or toolchain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from enginery.project.paths import RECIPES, RECORDS

KINDS = ("model", "target", "precision", "toolchain")


@dataclass(frozen=True)
class Stage:
    """What one stage of dvc.yaml does: its `meta` as a type."""

    step: str
    model: str = ""
    target: str = ""
    precision: str = ""
    toolchain: str = ""

    @property
    def key(self) -> str:
        """The parts that tell this stage from the others of its step, as DVC joins them."""
        return "-".join(part for part in (getattr(self, kind) for kind in KINDS) if part)

    @property
    def title(self) -> str:
        """What a person reads: build yolov8n fp16 for rtx-ada."""
        target = f"for {self.target}" if self.target else ""
        words = (self.step, self.model, self.precision, self.toolchain, target)
        return " ".join(word for word in words if word)

    @property
    def recipe(self) -> Path:
        """Its parameters and tool versions, which the fingerprint step writes."""
        return RECIPES / self.step / f"{self.key or 'recipe'}.json"


def record_file(stage: Stage) -> Path:
    """Where a stage of Enginery's own steps writes its record."""
    values = {kind: getattr(stage, kind) for kind in KINDS}
    return Path(RECORDS[stage.step].format(**values))
