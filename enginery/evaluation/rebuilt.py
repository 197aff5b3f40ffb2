"""Two plans of one recipe, byte by byte.

TensorRT compiles some kernels itself while it builds. The compiler puts the number of its process,
and a digest of it, into the names of their symbols: two builds with the same choices differ there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# As in _GLOBAL__N__00000000_24_generatedNativePointwise_1b7ab956_1042: the length of a name, the
# name, a digest, and the process that compiled it.
_SYMBOL = re.compile(rb"(GLOBAL__N__[0-9a-f]{8}_\d+_[A-Za-z]+_)[0-9a-f]{8}_\d+")


@dataclass(frozen=True)
class Rebuilt:
    """A plan beside the registered one: how many bytes each has, how many differ (None: they are
    not of one length), and whether they differ in compiled kernels' names alone. Of `layers`,
    `other_kernels` run another one, and outputs for the same random input are at most `distance`
    apart; without a GPU nobody looked.
    """

    plan_bytes: tuple[int, int]
    different: int | None
    only_names: bool
    layers: int = 0
    other_kernels: tuple[str, ...] = ()
    distance: float = 0.0

    @property
    def same_bytes(self) -> bool:
        """Whether every byte is the same."""
        return self.different == 0

    @property
    def passed(self) -> bool:
        """Whether the new engine is the registered one: its bytes, or all that it runs."""
        return self.same_bytes or self.only_names or bool(self.layers and not self.other_kernels)

    def __str__(self) -> str:
        """For people."""
        if self.same_bytes:
            return f"the same {self.plan_bytes[0]} bytes"
        return "; ".join([self._bytes(), *self._kernels()])

    def _bytes(self) -> str:
        if self.only_names:
            what = "names of kernels that TensorRT compiled, which hold the number of its process"
            return f"{self.different} bytes differ, all in {what}"
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
    first, second = registered.read_bytes(), rebuilt.read_bytes()
    sizes = len(first), len(second)
    if sizes[0] != sizes[1]:
        return Rebuilt(sizes, None, only_names=False)
    values = [np.frombuffer(each, np.uint8) for each in (first, second)]
    different = int(np.count_nonzero(values[0] != values[1]))
    return Rebuilt(sizes, different, different > 0 and _unnamed(first) == _unnamed(second))


def _unnamed(plan: bytes) -> bytes:
    return _SYMBOL.sub(rb"\1", plan)
