"""Two plans of one recipe: how many bytes differ, and whether the engines run the same kernels.

TensorRT compiles some kernels itself while it builds. The compiler puts the number of its process
and a digest into the names of their symbols, so plans with the same choices may differ in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Rebuilt:
    """A plan beside the registered one: how many bytes each has, and how many differ (None: they
    are not of one length). Of `layers`, `other_kernels` run another one, and outputs for the same
    random input are at most `distance` apart; without a GPU nobody looked. `same_weights`: the
    plans show their weights, and they are the same.
    """

    plan_bytes: tuple[int, int]
    different: int | None
    layers: int = 0
    other_kernels: tuple[str, ...] = ()
    distance: float = 0.0
    same_weights: bool = False

    @property
    def same_bytes(self) -> bool:
        """Whether every byte is the same."""
        return self.different == 0

    @property
    def passed(self) -> bool:
        """Whether the new engine is the registered one: its bytes, or all that it runs."""
        return self.same_bytes or bool(self.layers and not self.other_kernels)

    def __str__(self) -> str:
        """For people."""
        if self.same_bytes:
            return f"the same {self.plan_bytes[0]} bytes"
        weights = ["the weights are the same"] if self.same_weights else []
        return "; ".join([self._bytes(), *weights, *self._kernels()])

    def _bytes(self) -> str:
        if self.different is None:
            return f"{self.plan_bytes[1]} bytes, {self.plan_bytes[0]} are registered"
        return f"{self.different} of {self.plan_bytes[0]} bytes differ"

    def _kernels(self) -> list[str]:
        if not self.layers:
            return []
        some = ", ".join(self.other_kernels[:3])
        kernels = (
            f"{len(self.other_kernels)} of {self.layers} layers run other kernels: {some}"
            if self.other_kernels
            else f"all {self.layers} layers run the same kernels"
        )
        return [kernels, f"outputs differ by {self.distance:.2g} at most"]


def compare_plans(registered: Path, rebuilt: Path) -> Rebuilt:
    """Where two plans differ."""
    first, second = (np.fromfile(path, np.uint8) for path in (registered, rebuilt))
    sizes = len(first), len(second)
    if sizes[0] != sizes[1]:
        return Rebuilt(sizes, None)
    return Rebuilt(sizes, int(np.count_nonzero(first != second)))
