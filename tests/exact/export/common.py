"""An ONNX of one node, with metadata."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def graph(path: Path, **metadata: str) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], "n")], "g", ends[:1], ends[1:])
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in metadata.items():
        made.metadata_props.add(key=key, value=value)
    onnx.save(made, path)
    return made
