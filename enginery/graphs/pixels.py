"""A graph that takes pixels as cameras and decoders give them: uint8, 0 to 255. The type and the
normalization move into the graph.

The input keeps its shape, (batch, channels, height, width). Whoever builds says that it lies in
memory as (batch, height, width, channels): TensorRT then reads pixels and casts them in one kernel,
where a Transpose in the graph would be another one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.graphs.tensors import values

PIXELS = "pixels"  # the input's name: the float tensor keeps its own
LARGEST = 255
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def take_pixels(
    model: onnx.ModelProto,
    image: str,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
) -> int:
    """Let a graph take `pixels` in place of its input `image`: value / 255, less `mean`, divided by
    `std`, channel by channel. The graph changes in place.

    How many times larger the values of the tensor `image` are then: 255 where its convolutions'
    weights took over the division, else 1.

    Raises:
        ModelError: the input has no such shape or type, or a tensor is called `pixels` already.
    """
    graph = model.graph
    value = next(value for value in graph.input if value.name == image)
    _check(graph, value)
    kind = value.type.tensor_type.elem_type
    plain = kind == TensorProto.FLOAT and not any(mean) and {*std} == {1.0}
    convolutions = _convolutions(graph, image) if plain else None
    if convolutions is None:
        nodes = [_cast(f"{PIXELS}_cast", kind), *_normalization(graph, image, mean, std, kind)]
    else:
        nodes = [_cast(image, kind)]
        _divide_weights(graph, convolutions)
    value.name, value.type.tensor_type.elem_type = PIXELS, TensorProto.UINT8
    for position, node in enumerate(nodes):
        graph.node.insert(position, node)
    return 1 if convolutions is None else LARGEST


def _cast(out: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [PIXELS], [out], f"{PIXELS}_cast", to=kind)


def _convolutions(graph: onnx.GraphProto, image: str) -> list[str] | None:
    """The weights of the convolutions that read the image, if nothing else reads either."""
    constants = {tensor.name for tensor in graph.initializer}
    readers = [node for node in graph.node if image in node.input]
    weights = [node.input[1] for node in readers if node.op_type == "Conv"]
    outputs = {output.name for output in graph.output}
    reads = [name for node in graph.node for name in node.input if name in weights]
    alone = len(weights) == len(readers) == len(reads) and constants.issuperset(weights)
    return weights if alone and image not in outputs else None


def _divide_weights(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    for tensor in graph.initializer:
        if tensor.name in names:
            part = np.asarray(values(tensor) / np.float32(LARGEST), np.float32)
            tensor.CopyFrom(numpy_helper.from_array(part, tensor.name))


def _normalization(
    graph: onnx.GraphProto, image: str, mean: Sequence[float], std: Sequence[float], kind: int
) -> list[onnx.NodeProto]:
    """One product, and one sum where there is a mean."""
    by = np.array(std, np.float64)
    steps = [("Mul", "scale", 1 / (LARGEST * by))]
    if any(mean):
        steps.append(("Add", "shift", -np.array(mean, np.float64) / by))
    nodes, current = [], f"{PIXELS}_cast"
    for operator, name, constant in steps:
        _add_constant(graph, f"{PIXELS}_{name}", constant, kind)
        out = image if name == steps[-1][1] else f"{PIXELS}_{name}d"
        inputs = [current, f"{PIXELS}_{name}"]
        nodes.append(helper.make_node(operator, inputs, [out], f"{PIXELS}_{name}"))
        current = out
    return nodes


def _add_constant(
    graph: onnx.GraphProto, name: str, constant: NDArray[np.float64], kind: int
) -> None:
    typed = constant.astype(helper.tensor_dtype_to_np_dtype(kind)).reshape(1, -1, 1, 1)
    graph.initializer.append(numpy_helper.from_array(typed, name))


def _check(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    if len(tensor.shape.dim) != 4 or tensor.elem_type not in _FLOATS:
        what = f"`input: uint8`: the graph's input {value.name} is not (batch, channels, height,"
        raise ModelError(f"{what} width) of floats", "Leave `input` of the target out")
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    if PIXELS in names:
        what = f"`input: uint8`: the graph has a tensor called {PIXELS}"
        raise ModelError(what, "Rename it in the ONNX")
