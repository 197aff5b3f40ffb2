"""Small graphs, and what they are made of."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def node(
    kind: str, inputs: str, outputs: str, name: str = "", **attributes: object
) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(","), outputs.split(), name or outputs, **attributes)


def model(*nodes: onnx.NodeProto, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    """x (1, 2, 4, 4) to y, both float32."""
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, list("abcd"))]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "g", ends, out, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    for key, value in {
        "names": "{0: 'a'}",
        "stride": "32",
        "task": "detect",
        "kpt_shape": "[1, 2]",
        "date": "now",
    }.items():
        made.metadata_props.add(key=key, value=value)
    return made


def convolution(opset: int = 17) -> onnx.ModelProto:
    weights = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2) / 7
    return model(node("Conv", "x,w", "c"), node("Relu", "c", "y"), opset=opset, w=weights)


def types(found: onnx.ModelProto) -> dict[str, str]:
    kinds = TensorProto.DataType.Name
    return {tensor.name: kinds(tensor.data_type) for tensor in found.graph.initializer}


def ends(found: onnx.ModelProto) -> list[str]:
    values = [*found.graph.input, *found.graph.output]
    return [TensorProto.DataType.Name(value.type.tensor_type.elem_type) for value in values]


def quantized(opset: int) -> onnx.ModelProto:
    return model(
        node("QuantizeLinear", "x,s,z", "q"),
        node("DequantizeLinear", "q,s,z", "d"),
        node("Relu", "d", "y"),
        opset=opset,
        s=np.array(0.5, np.float32),
        z=np.array(0, np.int8),
    )
