"""What an engine is made of, as rows: each layer's kind, precision, kernel and share of a run, from
what TensorRT's inspector tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginery.toolchain.precisions import DATATYPES, narrowest
from enginery.toolchain.requests import Inspection


@dataclass(frozen=True)
class LayerProfile:
    """A layer: its precision is the narrowest datatype among its inputs; milliseconds of a run, and
    the share of all.
    """

    name: str
    kind: str
    precision: str
    tactic: str
    milliseconds: float
    share: float


def profile_layers(inspection: Inspection) -> list[LayerProfile]:
    """Every layer of an inspection, in the order of execution."""
    times = inspection.milliseconds
    whole = sum(times.values()) or 1.0
    layers = [{"Name": layer} if isinstance(layer, str) else layer for layer in inspection.layers]
    same = Counter(layer["Name"] for layer in layers)  # the profiler adds up layers of one name
    return [
        _profile(layer, times.get(layer["Name"], 0.0) / same[layer["Name"]], whole)
        for layer in layers
    ]


def _profile(layer: Mapping[str, Any], milliseconds: float, whole: float) -> LayerProfile:
    return LayerProfile(
        name=layer["Name"],
        kind=str(layer.get("LayerType", "")),
        precision=_precision(layer),
        tactic=str(layer.get("TacticName") or layer.get("TacticValue") or ""),
        milliseconds=milliseconds,
        share=milliseconds / whole,
    )


def summary(layers: Sequence[LayerProfile]) -> list[dict[str, Any]]:
    """One row for each precision: how many layers, milliseconds, share of time."""
    counted = Counter(layer.precision for layer in layers)
    rows = []
    for precision in reversed(DATATYPES):
        if counted[precision]:
            share = sum(layer.share for layer in layers if layer.precision == precision)
            took = sum(layer.milliseconds for layer in layers if layer.precision == precision)
            rows.append(
                {
                    "precision": precision,
                    "layers": counted[precision],
                    "time": f"{took:.3f} ms",
                    "share": f"{share:.1%}",
                }
            )
    return rows


def rows(layers: Sequence[LayerProfile], top: int | None) -> list[dict[str, Any]]:
    """One row for each layer, the one that takes longest first."""
    ordered = sorted(layers, key=lambda layer: -layer.milliseconds)[:top]
    return [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "precision": layer.precision,
            "time": f"{layer.milliseconds * 1000:.1f} us",
            "share": f"{layer.share:.1%}",
            "kernel": layer.tactic,
        }
        for layer in ordered
    ]


def _precision(layer: Mapping[str, Any]) -> str:
    return narrowest(str(tensor.get("Format/Datatype", "")) for tensor in layer.get("Inputs", ()))
