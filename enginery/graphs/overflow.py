"""Where a graph in FP16 first gives what is no number: the layer whose values FP16 cannot hold.

On a CPU, ONNX Runtime computes FP16 layers in FP32 and keeps values between them in FP32, too: its
outputs do not show an overflow that a GPU has. Only what is asked for as an output is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from enginery.errors import ModelError
from enginery.graphs.inspect import read_graph
from enginery.graphs.session import open_model
from enginery.quantization.placement import name_of

LARGEST = 65504  # that FP16 holds
_TOGETHER = 64  # layers that are looked at in one run
_FLOATS = (TensorProto.FLOAT16, TensorProto.FLOAT)
Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Overflow:
    """The first layer with NaN or infinite values, and the largest magnitude of its FP32 original
    (None where that has no such layer).
    """

    layer: str
    operator: str
    magnitude: float | None

    def __str__(self) -> str:
        """For people."""
        layer = f"{self.layer} ({self.operator})"
        if self.magnitude is None or self.magnitude <= LARGEST:
            return layer
        return f"{layer}, which reaches {self.magnitude:.3g}, and FP16 holds {LARGEST}"


def first_overflow(typed: Path, original: Path, feeds: Sequence[Feed]) -> Overflow | None:
    """The first layer of a typed graph whose values are no numbers for an input; None if all are.

    Raises:
        ModelError: a graph cannot be run.
    """
    model = onnx.shape_inference.infer_shapes(read_graph(typed))
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.value_info, *model.graph.output)
    }
    layers = [
        (node, name)
        for node in model.graph.node
        for name in node.output
        if types.get(name) in _FLOATS
    ]
    for start in range(0, len(layers), _TOGETHER):
        some = layers[start : start + _TOGETHER]
        for feed, outputs in zip(feeds, _run(model, some, types, feeds), strict=True):
            for (node, name), values in zip(some, outputs, strict=True):
                if not np.isfinite(values).all():
                    magnitude = _magnitude(read_graph(original), name, feed)
                    return Overflow(name_of(node), node.op_type, magnitude)
    return None


def _run(
    model: onnx.ModelProto,
    layers: Sequence[tuple[onnx.NodeProto, str]],
    types: Mapping[str, int],
    feeds: Sequence[Feed],
) -> Iterator[list[NDArray[Any]]]:
    """The values of some of a graph's tensors, for one input after another."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    changed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, types[name], None) for _, name in layers
    )
    session = open_model(changed, "the graph")
    for feed in feeds:
        yield [np.asarray(values) for values in session.run(None, dict(feed))]


def _magnitude(model: onnx.ModelProto, tensor: str, feed: Feed) -> float | None:
    layers = [(node, tensor) for node in model.graph.node if tensor in node.output]
    if not layers:
        return None
    try:
        [[values]] = _run(model, layers, {tensor: TensorProto.FLOAT}, [feed])
    except ModelError:  # it is of another type there
        return None
    return float(np.abs(values).max(initial=0))
