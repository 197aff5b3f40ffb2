"""Where Q/DQ nodes go, for TensorRT: before every convolution and matrix product with constant
weights, and on one input of a residual add.

Source: NVIDIA's TensorRT documentation, Working with Quantized Types, the section on placing Q/DQ
layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from enginery.errors import ModelError

_ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Mul", "HardSwish", "Clip")


@dataclass(frozen=True)
class Weights:
    """A node's constant weights: the initializer and the axis of its output channels (None: one
    scale for all).
    """

    name: str
    axis: int | None


@dataclass(frozen=True)
class Placement:
    """What is quantized: node -> weights, add -> its shortcut (input index), and the names of nodes
    kept in float by a rule.
    """

    nodes: Mapping[str, Weights]
    shortcuts: Mapping[str, int]
    excluded: tuple[str, ...]

    def activations(self, graph: onnx.GraphProto) -> tuple[str, ...]:
        """The tensors that get a Q/DQ pair, in the graph's order."""
        readers: dict[str, None] = {}
        for node in graph.node:
            if name_of(node) in self.nodes:
                readers[node.input[0]] = None
            elif name_of(node) in self.shortcuts:
                readers[node.input[self.shortcuts[name_of(node)]]] = None
        return tuple(readers)


def name_of(node: onnx.NodeProto) -> str:
    """A node's name; its first output's where it has none."""
    return str(node.name or node.output[0])


def place(graph: onnx.GraphProto, excluded: Sequence[str] = ()) -> Placement:
    """Choose nodes by type and weights, leaving out those whose name a pattern
    of `excluded` finds.
    """
    constants = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    candidates = {
        name_of(node): weights for node in graph.node if (weights := _weights(node, constants))
    }
    kept = tuple(
        name for name in candidates if any(re.search(pattern, name) for pattern in excluded)
    )
    nodes = {name: weights for name, weights in candidates.items() if name not in kept}
    adds = {
        name_of(node): 0 if fused[1] else 1
        for node, fused in _fused_adds(graph, nodes)
        if not any(re.search(pattern, name_of(node)) for pattern in excluded)
    }
    return Placement(nodes, adds, kept)


def tensors_to_calibrate(graph: onnx.GraphProto) -> tuple[str, ...]:
    """Every activation that could get a Q/DQ pair, whatever is excluded later, in the graph's
    order.

    Raises:
        ModelError: the graph has nothing to quantize.
    """
    placement = place(graph)
    # Where both inputs of an add can be its shortcut, an exclusion may turn them around.
    either = {
        name
        for node, fused in _fused_adds(graph, placement.nodes)
        if all(fused)
        for name in node.input
    }
    candidates = either.union(placement.activations(graph))
    quantized = tuple(
        dict.fromkeys(name for node in graph.node for name in node.input if name in candidates)
    )
    if not quantized:
        what = (
            "the graph has no convolution and no matrix product with constant weights: INT8 has "
            "nothing to quantize"
        )
        raise ModelError(what, "Take this model out of `int8` in params.yaml")
    return quantized


def _weights(node: onnx.NodeProto, constants: Mapping[str, int]) -> Weights | None:
    if len(node.input) < 2 or node.input[1] not in constants or node.input[0] in constants:
        return None
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Conv":
        return Weights(node.input[1], 0)
    if node.op_type == "ConvTranspose":
        return Weights(node.input[1], 1 if attributes.get("group", 1) == 1 else None)
    if node.op_type == "Gemm":
        return Weights(node.input[1], 0 if attributes.get("transB") else 1)
    if node.op_type == "MatMul" and constants[node.input[1]] == 2:
        return Weights(node.input[1], 1)
    return None


def _fused_adds(
    graph: onnx.GraphProto, nodes: Mapping[str, Weights]
) -> Iterator[tuple[onnx.NodeProto, list[bool]]]:
    """Adds that TensorRT can fuse into a convolution before them if the other input, the shortcut,
    is INT8 too; which inputs end one.
    """
    producers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    for node in graph.node:
        if node.op_type == "Add" and all(name in producers for name in node.input):
            fused = [_ends_quantized(name, producers, readers, nodes) for name in node.input]
            if any(fused):
                yield node, fused


def _ends_quantized(
    tensor: str,
    producers: Mapping[str, onnx.NodeProto],
    readers: Mapping[str, int],
    nodes: Mapping[str, Weights],
) -> bool:
    """Whether a tensor is a quantized convolution's output, after its activation, that only one
    node reads.
    """
    node = producers.get(tensor)
    if node is None or readers.get(tensor) != 1:
        return False
    while node is not None and name_of(node) not in nodes:
        if node.op_type not in _ACTIVATIONS:
            return False
        node = producers.get(node.input[0])
    return node is not None
