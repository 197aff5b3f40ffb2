"""Small graphs, and the scales and levels of weights by hand."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHAPES = {
    "w": (4, 3, 1, 1),
    "w2": (4, 4, 1, 1),
    "t": (4, 2, 1, 1),
    "g": (5, 4),
    "b": (4,),
    "m": (4, 6),
    "m3": (1, 4, 6),
}


def node(kind: str, inputs: str, outputs: str, name: str = "", **attributes: int) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name or None, **attributes)


def graph(*nodes: onnx.NodeProto, outputs: str = "y", **shapes: tuple[int, ...]) -> onnx.GraphProto:
    weights = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name)
        for name, shape in {**SHAPES, **shapes}.items()
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in ["x", *outputs.split()]
    ]
    return helper.make_graph(list(nodes), "g", ends[:1], ends[1:], weights)


def residual(*between: onnx.NodeProto, turned: bool = False, join: str = "Add") -> onnx.GraphProto:
    """y = [between of] conv(relu(x)) + relu(x)."""
    last = between[-1].output[0] if between else "c"
    ends = f"{last} r" if turned else f"r {last}"
    return graph(
        node("Relu", "x", "r", "relu"),
        node("Conv", "r w2", "c", "conv"),
        *between,
        node(join, ends, "y", "add"),
    )


def both() -> onnx.GraphProto:
    return graph(
        node("Relu", "x", "r", "relu"),
        node("Conv", "r w2", "a", "one"),
        node("Conv", "r w2", "d", "two"),
        node("Add", "a d", "s", "add"),
        node("Relu", "s", "y", "end"),
    )


def by_hand(
    weights: NDArray[np.float32], axis: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scale and levels, channel by channel and value by value."""
    channels = (
        [weights]
        if axis is None
        else [np.take(weights, index, axis) for index in range(weights.shape[axis])]
    )
    scales = []
    for channel in channels:
        scale = max(float(np.abs(channel).max()) / 127, 2.0**-24)
        near = np.float16(scale)
        scales.append(
            float(near if float(near) >= scale else np.nextafter(near, np.float16(np.inf)))
        )
    levels = np.zeros(weights.shape, np.int8)
    for index in np.ndindex(*weights.shape):
        scale = scales[0 if axis is None else index[axis]]
        levels[index] = max(-127, min(127, round(float(weights[index]) / scale)))
    return np.float32(scales[0] if axis is None else scales), levels
