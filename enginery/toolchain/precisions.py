"""The precisions that TensorRT chose for an engine's layers, beside the one that was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# How the inspector writes datatypes, widest first.
DATATYPES = {
    "other": "^$",
    "fp32": r"\bFP32\b|\bFloat\b",
    "bf16": r"\bBF16\b|\bBFloat16\b",
    "fp16": r"\bFP16\b|\bHalf\b",
    "fp8": r"\bFP8\b",
    "int8": r"\bInt8\b",
}
_DIGITS = 4
# They copy, or are nothing at all: no precision was asked of them.
_NO_WORK = {"Reformat", "NoOp", "Constant", "ShapeHostToDevice"}


@dataclass(frozen=True)
class BuiltLayer:
    """A layer of an engine: what it reads, as the inspector writes it, and how many weights of
    which type it has.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    weights: int
    weights_type: str

    @property
    def precision(self) -> str:
        """That of its weights; without weights, the narrowest that it reads."""
        return narrowest([self.weights_type] if self.weights else self.reads)

    @property
    def works(self) -> bool:
        """Whether it computes anything."""
        return self.kind not in _NO_WORK


def read_layers(values: Iterable[Mapping[str, Any]]) -> tuple[BuiltLayer, ...]:
    """As the child program wrote them."""
    return tuple(BuiltLayer(**{**each, "reads": tuple(each["reads"])}) for each in values)


def narrowest(datatypes: Iterable[str]) -> str:
    """The narrowest of these datatypes."""
    text = " ".join(datatypes)
    return next(
        (name for name in reversed(DATATYPES) if re.search(DATATYPES[name], text, re.IGNORECASE)),
        "other",
    )


def shares(layers: Sequence[BuiltLayer]) -> dict[str, dict[str, float]]:
    """The share of layers and of weights in each precision."""
    working = [layer for layer in layers if layer.works]
    return {
        "layers": _shares([(layer.precision, 1) for layer in working]),
        "weights": _shares([(layer.precision, layer.weights) for layer in working]),
    }


def fallen_back(layers: Sequence[BuiltLayer], precision: str) -> list[str]:
    """The layers with weights that run in FP32 though FP16 or INT8 was asked for; of INT8, every
    layer with weights if none runs in INT8.
    """
    if precision == "fp32":
        return []
    weighted = [layer for layer in layers if layer.weights]
    if precision == "int8" and all(layer.precision != "int8" for layer in weighted):
        return [layer.name for layer in weighted]
    return [layer.name for layer in weighted if layer.precision == "fp32"]


def _shares(counted: Sequence[tuple[str, int]]) -> dict[str, float]:
    whole = sum(count for _, count in counted) or 1
    sums = {name: sum(count for kind, count in counted if kind == name) for name in DATATYPES}
    return {name: round(count / whole, _DIGITS) for name, count in sorted(sums.items()) if count}
