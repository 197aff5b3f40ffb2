"""Insert Q/DQ nodes: symmetric, zero-point 0, one scale an activation, one an output channel of the
weights, which become int8.

Scales are numbers that float16 holds exactly, so that casting the rest of the graph to fp16 changes
none of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from enginery.graphs.tensors import values as values_of
from enginery.quantization.placement import Placement, Weights, name_of

LARGEST = 127
_SMALLEST_SCALE = 2.0**-24  # float16's smallest number above zero


def insert(model: onnx.ModelProto, placement: Placement, thresholds: Mapping[str, float]) -> None:
    """Quantize a float32 graph in place; `thresholds` has a number above zero for each of the
    placement's activations.
    """
    graph = model.graph
    scales = {
        name: float16_scale(np.array(thresholds[name] / LARGEST))
        for name in placement.activations(graph)
    }
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in graph.node:
        for index, name in _inputs(node, placement):
            if name not in done:
                nodes += _activation_pair(graph, name, scales[name])
                done.add(name)
            node.input[index] = f"{name}_dequantized"
        weights = placement.nodes.get(name_of(node))
        if weights:
            if weights.name not in done:
                nodes.append(_quantized_weights(graph, weights))
                done.add(weights.name)
            node.input[1] = f"{weights.name}_dequantized"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)


def float16_scale(scale: NDArray[np.float64]) -> NDArray[np.float32]:
    """The next float16 number that is not below `scale`, as float32."""
    exact = np.maximum(np.asarray(scale, np.float64), _SMALLEST_SCALE)
    near = exact.astype(np.float16)
    up = np.where(near.astype(np.float64) < exact, np.nextafter(near, np.float16(np.inf)), near)
    return up.astype(np.float32)


def _inputs(node: onnx.NodeProto, placement: Placement) -> list[tuple[int, str]]:
    if name_of(node) in placement.nodes:
        return [(0, node.input[0])]
    if name_of(node) in placement.shortcuts:
        index = placement.shortcuts[name_of(node)]
        return [(index, node.input[index])]
    return []


def _activation_pair(
    graph: onnx.GraphProto, name: str, scale: NDArray[np.float32]
) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.int8), f"{name}_zero"))
    ends = [f"{name}_scale", f"{name}_zero"]
    quantize = helper.make_node(
        "QuantizeLinear", [name, *ends], [f"{name}_quantized"], f"{name}_quantize"
    )
    dequantize = helper.make_node(
        "DequantizeLinear",
        [f"{name}_quantized", *ends],
        [f"{name}_dequantized"],
        f"{name}_dequantize",
    )
    return [quantize, dequantize]


def _quantized_weights(graph: onnx.GraphProto, weights: Weights) -> onnx.NodeProto:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == weights.name)
    values = values_of(tensor).astype(np.float64)
    others = tuple(axis for axis in range(values.ndim) if axis != weights.axis)
    scale = float16_scale(np.abs(values).max(axis=others) / LARGEST)
    shape = [-1 if axis == weights.axis else 1 for axis in range(values.ndim)]
    levels = np.clip(
        np.rint(values / scale.astype(np.float64).reshape(shape)), -LARGEST, LARGEST
    ).astype(np.int8)
    graph.initializer.extend(
        [
            numpy_helper.from_array(levels, f"{weights.name}_quantized"),
            numpy_helper.from_array(scale, f"{weights.name}_scale"),
            numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{weights.name}_zero"),
        ]
    )
    ends = [f"{weights.name}_{end}" for end in ("quantized", "scale", "zero")]
    attributes = {} if weights.axis is None else {"axis": weights.axis}
    return helper.make_node(
        "DequantizeLinear",
        ends,
        [f"{weights.name}_dequantized"],
        f"{weights.name}_dequantize",
        **attributes,
    )


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input} | {
        output.name for output in graph.output
    }
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
