"""Engines that take pixels and give detections: the graphs that are built, and what they are compared
with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from enginery.errors import ModelError
from enginery.evaluation.ends import pair_detections, to_pixels
from enginery.graphs.detections import OUTPUTS, PLUGIN, add_candidates, give_detections
from enginery.graphs.pixels import PIXELS, take_pixels
from enginery.toolchain.client import build
from enginery.toolchain.requests import BuildRequest
from enginery.vision.detections import engine_rows, suppress
from enginery.vision.images import preprocess
from enginery.vision.images import to_pixels as image_pixels
from enginery.vision.nms import Nms
from enginery.vision.preprocess import Preprocess
from tests.test_toolchain import graph, silent

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 3


def run(model: onnx.ModelProto, **inputs: NDArray[Any]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs: list[NDArray[Any]] = session.run(None, inputs)
    return outputs


def pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("mean", "std", "times", "operators"),
    [
        ((0.0,), (1.0,), 255, ["Cast", "Conv", "Relu"]),
        ((0.0,), STD, 1, ["Cast", "Mul", "Conv", "Relu"]),
        (MEAN, STD, 1, ["Cast", "Mul", "Add", "Conv", "Relu"]),
    ],
)
def test_a_graph_takes_pixels_and_gives_the_same(
    tmp_path: Path,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    times: int,
    operators: list[str],
) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx", batch="n"))
    image = pixels(2, 3, 16, 16)
    per_channel = [np.array(each, np.float32).reshape(1, -1, 1, 1) for each in (mean, std)]
    prepared = (image.astype(np.float32) / 255 - per_channel[0]) / per_channel[1]
    [expected] = run(model, x=prepared.astype(np.float32))
    assert take_pixels(model, "x", mean, std) == times
    assert [node.op_type for node in model.graph.node] == operators
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model, pixels=image)[0], expected, rtol=1e-4, atol=1e-5)


def test_weights_that_something_else_reads_are_left_alone(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx"))
    model.graph.node.append(helper.make_node("Identity", ["w"], ["also"]))
    assert take_pixels(model, "x") == 1
    quantized = onnx.load(graph(tmp_path / "q.onnx"))
    quantized.graph.node[0].input[0] = "dequantized"
    quantized.graph.node.insert(0, helper.make_node("Identity", ["x"], ["dequantized"]))
    assert take_pixels(quantized, "x") == 1


def test_a_graph_that_cannot_take_pixels(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx"))
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = PIXELS
    with pytest.raises(ModelError, match="the graph has a tensor called pixels"):
        take_pixels(model, "x")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    with pytest.raises(ModelError, match=r"the graph's input x is not \(batch, channels"):
        take_pixels(model, "x")


def detector(*shape: int | str, opset: int = 17) -> onnx.ModelProto:
    """Its raw output is its input."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "raw")
    ]
    node = helper.make_node("Identity", ["x"], ["raw"])
    body = helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def raw_output(boxes: int = 200) -> NDArray[np.float32]:
    """Boxes that overlap, of three classes."""
    random = np.random.default_rng(3)
    centres = random.uniform(40, 60, (2, boxes)) + 60 * random.integers(0, 3, (2, boxes))
    sizes, scores = random.uniform(20, 40, (2, boxes)), random.random((CLASSES, boxes)) ** 3
    return np.concatenate([centres, sizes, scores])[None].astype(np.float32)


@pytest.mark.parametrize("opset", [13, 17, 18])
def test_what_nms_takes_gives_what_ultralytics_finds(opset: int) -> None:
    """The plugin is TensorRT's: here a plain loop stands for it."""
    nms, raw, model = Nms(), raw_output(), detector(1, 4 + CLASSES, 200, opset=opset)
    names = add_candidates(model)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    _, boxes, scores = run(model, x=raw)
    assert ((scores > 0).sum(axis=2) <= 1).all()
    found = suppress(raw, nms)[0]
    found = found[found[:, 4] > 0]
    kept = greedy(boxes[0], scores[0], nms)
    assert 3 < len(found) == len(kept) < (scores > nms.confidence).sum()
    np.testing.assert_allclose(kept, found, rtol=1e-5, atol=1e-4)


def greedy(boxes: NDArray[Any], scores: NDArray[Any], nms: Nms) -> list[NDArray[Any]]:
    """What EfficientNMS is documented to do."""
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    kept: list[NDArray[Any]] = []
    for index in np.argsort(-scores, axis=None):
        anchor, label = np.unravel_index(index, scores.shape)
        one = np.array([*corners[anchor], scores[anchor, label], label])
        same = [each[:4] for each in kept if each[5] == label]
        if scores[anchor, label] > nms.confidence and not any(
            overlap(each, one) > nms.iou for each in same
        ):
            kept.append(one)
    return kept


def overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:4], other[2:4])
    shared = np.clip(high - low, 0, None).prod()
    return float(shared / (sum((each[2:4] - each[:2]).prod() for each in (one, other)) - shared))


def test_a_graph_gives_detections() -> None:
    model = detector("n", 4 + CLASSES, 200)
    give_detections(model, Nms(confidence=0.4, detections=7))
    shapes = [
        [size.dim_value or size.dim_param for size in output.type.tensor_type.shape.dim]
        for output in model.graph.output
    ]
    assert [output.name for output in model.graph.output] == list(OUTPUTS)
    assert shapes == [["n", 1], ["n", 7, 4], ["n", 7], ["n", 7]]
    node = model.graph.node[-1]
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert (node.op_type, values["score_threshold"], values["max_output_boxes"]) == (
        PLUGIN,
        pytest.approx(0.4),
        7,
    )


@pytest.mark.parametrize("shape", [(1, 300, 6), (1, 4, 200), (1, 7), (1, "m", 200)])
def test_a_graph_that_needs_no_nms_or_has_no_boxes(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(ModelError, match=r"the graph gives \[1, .*not \[batch, 4 \+ classes"):
        give_detections(detector(*shape), Nms())


def rows(*detections: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array([[*detections, (0,) * 6]], np.float32)


def test_rows_of_an_engine_end_at_its_number() -> None:
    boxes = np.arange(16, dtype=np.float32).reshape(2, 2, 4)
    found = engine_rows(
        dict(
            zip(
                OUTPUTS,
                (np.array([[1], [0]]), boxes, np.full((2, 2), 0.5), np.ones((2, 2), np.int32)),
                strict=True,
            )
        )
    )
    assert found.tolist() == [[[0, 1, 2, 3, 0.5, 1], [0] * 6], [[0] * 6, [0] * 6]]


def test_detections_are_compared_one_by_one_whatever_their_order() -> None:
    disc, star = (10, 10, 50, 50, 0.9, 0), (60, 60, 90, 90, 0.8, 1)
    near, broken = (11, 10, 50, 50, 0.7, 0), (float("nan"),) * 6
    [first], [second] = pair_detections([rows(disc, star)], [rows(star, near, broken)])
    assert first[0, :2].tolist() == [
        list(map(np.float32, disc[:5])),
        list(map(np.float32, star[:5])),
    ]
    assert second[0, 0, 0] == 11
    assert np.isnan(second[0, 2]).all()
    [none], _ = pair_detections([rows(disc)], [rows(star)])
    assert none.shape == (1, 0, 5)


@pytest.mark.parametrize("how", [None, Preprocess(mean=MEAN, std=STD), Preprocess(color="bgr")])
def test_prepared_images_go_back_to_their_pixels(how: Preprocess | None) -> None:
    image = pixels(30, 40, 3)
    prepared = preprocess(image, 32, 32, "detect", how)
    own = {"mean": how.mean, "std": how.std} if how else {}
    expected = image_pixels(image, 32, 32, "detect", how)
    assert expected.shape == (3, 32, 32)
    np.testing.assert_array_equal(to_pixels(prepared, own), expected)
    colours = expected.reshape(32, 32, 3)[4 + 8, 16]  # letterboxed: 40 x 30 becomes 32 x 24
    assert colours.tolist() != [114] * 3


def test_tensorrt_rtx_builds_a_graph_that_takes_pixels(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx"))
    take_pixels(model, "x")
    onnx.save(model, tmp_path / "p.onnx")
    request = BuildRequest(
        "tensorrt_rtx",
        tmp_path / "p.onnx",
        tmp_path / "p.plan",
        "g",
        compute_capability="8.9",
        channels_last=PIXELS,
    )
    first = build(Path(sys.executable), request, silent, 120).plan_sha256
    planes = BuildRequest(**{**vars(request), "channels_last": None})
    assert build(Path(sys.executable), planes, silent, 120).plan_sha256 != first
