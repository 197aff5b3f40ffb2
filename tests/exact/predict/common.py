"""A model's original and what params.yaml says of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import onnx
from onnx import TensorProto, helper

from enginery.project.paths import model_folder


def graph(name: str, *outputs: str) -> None:
    """The model's FP32 original: each output is its input, the second doubled."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"])]
    ends += [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, [1, 3, "h", "w"]) for each in outputs
    ]
    nodes = [
        helper.make_node("Identity", [name], [outputs[0]]),
        helper.make_node("Add", [name, name], [outputs[1]]),
    ]
    body = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    path = model_folder("m", "export") / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, path)


SPEC: Any = SimpleNamespace(
    models={"m": SimpleNamespace(validation="set", judging=lambda: None)},
    targets={"server": SimpleNamespace(time_limit_s=77)},
)
