"""What changes a graph's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import numpy_helper

Edit = Callable[[onnx.ModelProto], object]


def weights(model: onnx.ModelProto, change: Callable[[Any], Any]) -> None:
    [tensor] = model.graph.initializer
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
