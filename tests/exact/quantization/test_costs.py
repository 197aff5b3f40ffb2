"""What a layer costs in INT8, and which layers stay in FP16."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from enginery.quantization import qdq, sensitivity
from enginery.quantization.placement import Placement, place
from tests.exact.quantization.common import by_hand, node


def small() -> onnx.ModelProto:
    """Two 1x1 convolutions of a 1x1 image and a residual add; by hand below."""
    one = numpy_helper.from_array(
        np.array([[0.3, -1.0], [0.5, 0.7]], np.float32).reshape(2, 2, 1, 1), "one"
    )
    two = numpy_helper.from_array(
        np.array([[1.0, 0.11], [-0.6, 0.37]], np.float32).reshape(2, 2, 1, 1), "two"
    )
    nodes = [
        node("Relu", "x", "r", "relu"),
        node("Conv", "r one", "a", "first"),
        node("Conv", "a two", "b", "second"),
        node("Add", "r b", "y", "add"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 1, 1]) for name in "xy"]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], [one, two])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


IMAGES = [np.array([0.9, 0.4], np.float32), np.array([0.2, 1.0], np.float32)]
THRESHOLDS = {"r": 1.0, "a": 1.3}


def run_by_hand(image: NDArray[np.float32], layer: str) -> NDArray[np.float64]:
    def rounded(values: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
        scale = float(qdq.float16_scale(np.array(threshold / 127)))
        return np.clip(np.rint(values / scale), -128, 127) * scale

    def matrix(rows: Sequence[Sequence[float]], quantized: bool) -> NDArray[np.float64]:
        values = np.array(rows, np.float32)
        if not quantized:
            return values.astype(np.float64)
        scale, levels = by_hand(values, 0)
        return levels * scale.astype(np.float64)[:, None]

    r = image.astype(np.float64)
    a = matrix([[0.3, -1.0], [0.5, 0.7]], layer == "first") @ (
        rounded(r, 1.0) if layer == "first" else r
    )
    b = matrix([[1.0, 0.11], [-0.6, 0.37]], layer == "second") @ (
        rounded(a, 1.3) if layer == "second" else a
    )
    return b + (rounded(r, 1.0) if layer == "add" else r)


def cost_by_hand(layer: str) -> float:
    shares = []
    for channel in range(2):
        before = [run_by_hand(image, "")[channel] for image in IMAGES]
        after = [run_by_hand(image, layer)[channel] for image in IMAGES]
        error = sum((a - b) ** 2 for a, b in zip(after, before, strict=True))
        shares.append(math.sqrt(error / sum(b**2 for b in before)))
    return sum(shares) / 2


def test_each_layer_is_quantized_alone_and_the_costliest_comes_first() -> None:
    model = small()
    before = model.SerializeToString()
    said: list[tuple[int, int]] = []
    feeds = [{"x": image.reshape(1, 2, 1, 1)} for image in IMAGES]
    found = sensitivity.rank(
        model,
        place(model.graph),
        THRESHOLDS,
        feeds,
        lambda done, all_of: said.append((done, all_of)),
    )
    expected = {layer: cost_by_hand(layer) for layer in ("first", "second", "add")}
    assert {cost.layer: cost.cost for cost in found} == pytest.approx(expected, rel=1e-4)
    assert min(expected.values()) > 1e-4
    assert [cost.layer for cost in found] == sorted(expected, key=lambda layer: -expected[layer])
    assert said == [(1, 3), (2, 3), (3, 3)]
    assert model.SerializeToString() == before


def test_layers_of_the_same_cost_are_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "_distance", lambda expected, found: 1.0)
    model = small()
    found = sensitivity.rank(
        model,
        place(model.graph),
        THRESHOLDS,
        [{"x": IMAGES[0].reshape(1, 2, 1, 1)}],
        lambda *_: None,
    )
    assert [cost.layer for cost in found] == ["add", "first", "second"]


def test_the_distance_is_by_channel_and_a_channel_of_zeros_does_not_count() -> None:
    """Two images, two outputs: (1, 3, 2) by channels, of which the last is 0, and (1, 2) as one
    channel.
    """
    expected = [
        [np.array([[[3, 4], [1, 1], [0, 0]]], np.float32), np.array([[6, 8]], np.float32)],
        [np.array([[[0, 0], [1, 1], [0, 0]]], np.float32), np.array([[0, 0]], np.float32)],
    ]
    found = [
        [np.array([[[3, 4.5], [1, 2], [9, 9]]], np.float32), np.array([[6, 8]], np.float32)],
        [np.array([[[0, 0], [1, 1], [0, 0]]], np.float32), np.array([[1, 0]], np.float32)],
    ]
    shares = [math.sqrt(0.25 / 25), math.sqrt(1 / 4), math.sqrt(1 / 100)]
    assert sensitivity._distance(expected, found) == pytest.approx(sum(shares) / 3, rel=1e-12)
    assert sensitivity._distance(expected, expected) == 0.0


def test_channels_of_a_batch() -> None:
    output = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    assert sensitivity._channels(output).tolist() == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert sensitivity._channels(output).dtype == np.float64
    assert sensitivity._channels(output.reshape(2, 6)).tolist() == [list(range(12))]


@pytest.mark.parametrize("size", range(9))
def test_the_shortest_prefix_that_passes_is_found(size: int) -> None:
    ranked = [f"layer {number}" for number in range(size)]
    for needed in range(size + 2):
        asked: list[int] = []

        def passes(names: Sequence[str], needed: int = needed, asked: list[int] = asked) -> bool:
            assert list(names) == ranked[: len(names)]
            asked.append(len(names))
            return len(names) >= needed

        found = sensitivity.smallest_prefix(ranked, passes)
        assert found == (None if needed > size else ranked[:needed])
        assert len(set(asked)) == len(asked)  # each costs a build: none twice


def test_it_doubles_then_bisects() -> None:
    asked: list[int] = []

    def passes(names: Sequence[str]) -> bool:
        asked.append(len(names))
        return len(names) >= 11

    sensitivity.smallest_prefix([str(number) for number in range(100)], passes)
    assert asked == [0, 1, 2, 4, 8, 16, 12, 10, 11]


def test_a_channel_of_small_values_counts() -> None:
    """Its size is below 1, and it is the only one."""
    expected = [[np.full((1, 1, 4), 0.25, np.float32)]]
    found = [[np.full((1, 1, 4), 0.5, np.float32)]]
    assert sensitivity._distance(expected, found) == 1.0


def test_layers_are_judged_one_by_one() -> None:
    placement = Placement({"a": (1,), "b": ()}, {"s": 0}, ("x",))  # type: ignore[dict-item]
    assert list(sensitivity._one_by_one(placement)) == [
        ("a", Placement({"a": (1,)}, {}, ())),  # type: ignore[dict-item]
        ("b", Placement({"b": ()}, {}, ())),  # type: ignore[dict-item]
        ("s", Placement({}, {"s": 0}, ())),
    ]


def test_a_graph_that_cannot_be_opened_is_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sensitivity, "open_model", lambda *given: asked.append(given[1]))
    sensitivity._run(onnx.ModelProto(), [])
    assert asked == ["the graph"]


def test_even_the_first_layer_is_found_by_bisection() -> None:
    asked: list[int] = []
    found = sensitivity.smallest_prefix("abcd", lambda names: asked.append(len(names)) or True)
    assert (found, asked) == ([], [0])
