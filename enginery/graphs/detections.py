"""A graph that gives detections: NMS at its end, by TensorRT's plugin EfficientNMS.

Each box counts once, with its best class, as in Ultralytics' prediction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from enginery.errors import ModelError
from enginery.vision.nms import Nms

OUTPUTS = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")
PLUGIN = "EfficientNMS_TRT"
# Scores below this share of the best class's are no ties that rounding to fp16 could make.
_TIE = 0.998
_FINAL = 6  # values of a detection that needs no NMS
_AXES_ARE_INPUTS = 18  # the opset from which ReduceMax takes its axes as an input


def give_detections(model: onnx.ModelProto, nms: Nms) -> None:
    """Let a graph give detections in place of its raw output, (batch, 4 + classes, boxes).

    The outputs are the number of detections (batch, 1), boxes (batch, n, 4) as x1, y1, x2, y2 in
    the input's pixels, scores and classes (batch, n); rows beyond the number mean nothing. The
    graph changes in place.

    Raises:
        ModelError: it has other outputs.
    """
    graph = model.graph
    boxes, scores = add_candidates(model)
    batch = _size(graph.output[0].type.tensor_type.shape.dim[0])
    graph.node.append(
        helper.make_node(
            PLUGIN,
            [boxes, scores],
            list(OUTPUTS),
            "nms",
            plugin_version="1",
            background_class=-1,
            max_output_boxes=nms.detections,
            score_threshold=nms.confidence,
            iou_threshold=nms.iou,
            score_activation=0,
            class_agnostic=0,
            box_coding=1,  # centre and size
        )
    )
    _replace_outputs(graph, batch, nms.detections)


def add_candidates(model: onnx.ModelProto) -> tuple[str, str]:
    """Add what NMS takes: boxes (batch, n, 4) as centre and size, scores (batch, n, classes), of
    which all but the best class's are 0; the names of both.

    Raises:
        ModelError: the graph gives no such boxes and scores.
    """
    graph, raw = model.graph, model.graph.output[0].name
    kind = graph.output[0].type.tensor_type.elem_type
    _constants(graph, _class_count(graph), kind)
    axes = _reduction_axes(model)
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Transpose", [raw], "rows", {"perm": [0, 2, 1]}),
        ("Slice", ["nms_rows", "nms_first", "nms_four", "nms_axis"], "boxes", {}),
        ("Slice", ["nms_rows", "nms_four", "nms_last", "nms_axis"], "all", {}),
        ("ReduceMax", ["nms_all", *axes[0]], "best", {"keepdims": 1, **axes[1]}),
        ("Mul", ["nms_best", "nms_tie"], "limit", {}),
        ("GreaterOrEqual", ["nms_all", "nms_limit"], "is_best", {}),
        ("Where", ["nms_is_best", "nms_all", "nms_zero"], "scores", {}),
    ]
    for operator, inputs, name, attributes in steps:
        out = f"nms_{name}"
        graph.node.append(helper.make_node(operator, inputs, [out], out, **attributes))
    return "nms_boxes", "nms_scores"


def _reduction_axes(model: onnx.ModelProto) -> tuple[list[str], dict[str, list[int]]]:
    """The last axis, as an input or as an attribute."""
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return (["nms_axis"], {}) if opset >= _AXES_ARE_INPUTS else ([], {"axes": [2]})


def _constants(graph: onnx.GraphProto, classes: int, kind: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    whole = {"first": 0, "four": 4, "last": 4 + classes, "axis": 2}
    values = {name: np.array([value], np.int64) for name, value in whole.items()}
    values |= {"tie": np.array(_TIE, dtype), "zero": np.array(0, dtype)}
    for name, value in values.items():
        graph.initializer.append(numpy_helper.from_array(value, f"nms_{name}"))


def _class_count(graph: onnx.GraphProto) -> int:
    """How many classes the raw output has, (batch, 4 + classes, boxes)."""
    shapes = [[_size(size) for size in each.type.tensor_type.shape.dim] for each in graph.output]
    rows, boxes = shapes[0][1:] if len(shapes) == 1 and len(shapes[0]) == 3 else (None, None)
    if not isinstance(rows, int) or rows <= 4 or boxes == _FINAL:
        given = " and ".join(map(str, shapes))
        what = f"`output: detections`: the graph gives {given}, not [batch, 4 + classes, boxes]"
        raise ModelError(what, "Leave `output` of the target out: its boxes are final, or no boxes")
    return rows - 4


def _size(size: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return size.dim_value or size.dim_param or None


def _replace_outputs(graph: onnx.GraphProto, batch: int | str | None, most: int) -> None:
    shapes = ([batch, 1], [batch, most, 4], [batch, most], [batch, most])
    kinds = (TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)
    del graph.output[:]
    for name, kind, shape in zip(OUTPUTS, kinds, shapes, strict=True):
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
