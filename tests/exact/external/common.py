"""Graphs whose weights lie in a file beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CURE = "Copy the graph with its data files, or export it again"
BIG = np.arange(600, dtype=np.float32).reshape(2, 300)
EDGE = np.arange(256, dtype=np.float32)  # 1024 bytes: the smallest that lies outside
SMALL = np.arange(255, dtype=np.float32)
PLAIN = np.arange(1500, dtype=np.int64)


def tensor(name: str, values: np.ndarray[Any, Any], raw: bool = True) -> TensorProto:
    if raw:
        return numpy_helper.from_array(values, name)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    return helper.make_tensor(name, kind, values.shape, values.reshape(-1).tolist())


def model(*weights: TensorProto, **metadata: str) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    body = helper.make_graph([node], "g", ends[:1], ends[1:], list(weights))
    made = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in metadata.items():
        made.metadata_props.add(key=key, value=value)
    return made


def four(**metadata: str) -> onnx.ModelProto:
    weights = [
        tensor("b", BIG),
        tensor("e", EDGE),
        tensor("s", SMALL),
        tensor("p", PLAIN, raw=False),
    ]
    return model(*weights, **metadata)


def refers(name: str, to: str, size: int = 8, **fields: str) -> TensorProto:
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[size // 4])
    found.data_location = TensorProto.EXTERNAL
    for key, value in {"location": to, **fields}.items():
        found.external_data.add(key=key, value=value)
    return found


def fields_of(found: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in found.external_data}
