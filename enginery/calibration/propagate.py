"""Ranges for every activation of a graph, from those of its convolutions' inputs: what a weakly
typed TensorRT asks for.

Such a TensorRT runs a layer in INT8 only where it knows the ranges on both sides. A convolution's
output before its activation, for example, has none: no Q/DQ pair is ever placed there. Each is
derived from its neighbours, nothing is measured again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

_MOVES = (
    "Split",
    "Slice",
    "Concat",
    "Reshape",
    "Transpose",
    "Resize",
    "MaxPool",
    "Identity",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
)


def complete(graph: onnx.GraphProto, thresholds: Mapping[str, float]) -> dict[str, float]:
    """Thresholds of the given tensors and of all that can be derived from them.

    - What only moves or drops values (Split, Concat, MaxPool, ...) has its input's range; an input
    without one has the largest of
      what is made of it.
    - A sigmoid's largest value is 1. The x of a SiLU, x * sigmoid(x), and of a Relu has its
    output's range: for large x they are
      the same, and what is clipped below becomes 0 in both.
    - What is added to a shortcut has the sum's range.
    """
    known = dict(thresholds)
    sigmoids = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Sigmoid"}
    known.update((name, 1.0) for name in sigmoids if name not in known)
    before = -1
    while len(known) > before:
        before = len(known)
        for node in graph.node:
            if node.op_type in _MOVES:
                _spread(known, _data(node), node.output)
        for node in reversed(graph.node):
            _spread(known, node.output, tuple(_before(node, sigmoids)))
    return known


def _spread(
    known: dict[str, float], sources: Iterator[str] | tuple[str, ...], targets: tuple[str, ...]
) -> None:
    """Give the targets without a range the largest of the sources', once one is known."""
    ranges = [known[name] for name in sources if name in known]
    for name in targets if ranges else ():
        known.setdefault(name, max(ranges))


def _data(node: onnx.NodeProto) -> tuple[str, ...]:
    """A moving node's inputs that are data, not sizes."""
    return tuple(node.input) if node.op_type == "Concat" else tuple(node.input[:1])


def _before(node: onnx.NodeProto, sigmoids: Mapping[str, str]) -> Iterator[str]:
    """The inputs of a node that have its output's range."""
    if node.op_type in _MOVES:
        yield from _data(node)
    elif node.op_type in ("Relu", "Add"):
        yield from node.input
    elif node.op_type == "Mul":
        first, second = node.input
        if sigmoids.get(second) == first:
            yield first
        elif sigmoids.get(first) == second:
            yield second
