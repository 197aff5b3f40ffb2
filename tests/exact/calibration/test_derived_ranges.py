"""Ranges that follow from other ranges."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from enginery.calibration import propagate as complete
from tests.exact.calibration.common import node


def graph(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [])


@pytest.mark.parametrize(
    "kind",
    [
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
    ],
)
def test_what_only_moves_values_has_one_range_on_both_sides(kind: str) -> None:
    found = complete.complete(graph(node(kind, "x", "y")), {"x": 2.0})
    assert found == {"x": 2.0, "y": 2.0}
    assert complete.complete(graph(node(kind, "x", "y")), {"y": 3.0}) == {"x": 3.0, "y": 3.0}
    assert complete.complete(graph(node(kind, "x", "y")), {"other": 1.0}) == {"other": 1.0}


def test_sizes_are_no_data_but_all_of_a_concat_is() -> None:
    assert complete.complete(graph(node("Reshape", "x shape", "y")), {"shape": 9.0}) == {
        "shape": 9.0
    }
    assert complete.complete(graph(node("Reshape", "x shape", "y")), {"y": 4.0}) == {
        "x": 4.0,
        "y": 4.0,
    }
    assert complete.complete(graph(node("Concat", "a b", "y")), {"a": 1.0, "b": 5.0}) == {
        "a": 1.0,
        "b": 5.0,
        "y": 5.0,
    }
    assert complete.complete(graph(node("Concat", "a b c", "y")), {"y": 5.0, "b": 2.0}) == {
        "a": 5.0,
        "b": 2.0,
        "c": 5.0,
        "y": 5.0,
    }
    assert complete.complete(graph(node("Split", "x", "a b")), {"a": 1.0, "b": 6.0}) == {
        "a": 1.0,
        "b": 6.0,
        "x": 6.0,
    }


def test_a_silu_a_relu_and_a_shortcut() -> None:
    silu = graph(node("Sigmoid", "x", "s"), node("Mul", "x s", "y"))
    assert complete.complete(silu, {"y": 7.0}) == {"x": 7.0, "s": 1.0, "y": 7.0}
    turned = graph(node("Sigmoid", "x", "s"), node("Mul", "s x", "y"))
    assert complete.complete(turned, {"y": 7.0}) == {"x": 7.0, "s": 1.0, "y": 7.0}
    assert complete.complete(silu, {"y": 7.0, "s": 0.5}) == {"x": 7.0, "s": 0.5, "y": 7.0}
    assert complete.complete(
        graph(node("Sigmoid", "x", "s"), node("Mul", "z s", "y")), {"y": 7.0}
    ) == {"s": 1.0, "y": 7.0}
    assert complete.complete(graph(node("Relu", "x", "y")), {"y": 7.0}) == {"x": 7.0, "y": 7.0}
    assert complete.complete(graph(node("Relu", "x", "y")), {"x": 7.0}) == {"x": 7.0}
    assert complete.complete(graph(node("Add", "a b", "y")), {"y": 7.0, "b": 2.0}) == {
        "a": 7.0,
        "b": 2.0,
        "y": 7.0,
    }
    assert complete.complete(graph(node("Conv", "a w", "y")), {"y": 7.0}) == {"y": 7.0}


def test_ranges_go_on_until_nothing_changes() -> None:
    """Forwards through a move, back through a Relu and two moves, and forwards again."""
    chain = graph(
        node("Transpose", "c", "d"),
        node("Identity", "a", "b"),
        node("Relu", "b", "c0"),
        node("Reshape", "c0", "c"),
        node("Identity", "a", "e"),
        node("Flatten", "e", "f"),
    )
    assert complete.complete(chain, {"d": 3.0}) == dict.fromkeys(
        ("a", "b", "c", "c0", "d", "e", "f"), 3.0
    )
