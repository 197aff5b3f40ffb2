"""The step that simplifies a graph, judged on real images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from enginery.graphs import simplify
from tests.exact.steps.common import network, simplified


def simplify_with(
    monkeypatch: pytest.MonkeyPatch, made: onnx.ModelProto | None, reason: str = ""
) -> dict[str, Any]:
    """What the simplifier makes is this graph."""
    source = simplified()

    def run(given: Path, out: Path, time_limit: float) -> str:
        assert (given, time_limit) == (source, 9.5)
        if made is not None:
            onnx.save(made, out)
        return reason

    monkeypatch.setattr(simplify, "_run", run)
    feeds = [{"images": np.full((1, 3, 4, 4), value, np.float32)} for value in (0.25, 1.0)]
    return simplify.simplify(source, Path("out.onnx"), feeds, 9.5)


def scaled(factor: float) -> onnx.ModelProto:
    found = network()
    values = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * np.float32(factor)
    found.graph.initializer.append(numpy_helper.from_array(values, "v"))
    found.graph.node[2].input[1] = "v"
    return found


def test_a_simplified_graph_that_is_equal_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scaled(1)
    made.graph.node.append(helper.make_node("Identity", ["output0"], ["more"]))
    found = simplify_with(monkeypatch, made)
    assert found == {
        "simplified": True,
        "reason": "",
        "nodes_before": 3,
        "max_difference": 0.0,
        "nodes_after": 4,
    }
    assert len(onnx.load("out.onnx").graph.node) == 4


@pytest.mark.parametrize(
    ("factor", "used"),
    [(1.00005, True), (1.0002, False), (0.9998, False), (2.0, False), (math.nan, False)],
)
def test_a_simplified_graph_that_differs_is_not(
    monkeypatch: pytest.MonkeyPatch, factor: float, used: bool
) -> None:
    found = simplify_with(monkeypatch, scaled(factor))
    assert found["simplified"] is used
    if math.isnan(factor):
        return
    difference = abs(float(np.float32(factor)) - 1)
    if used:
        assert found["max_difference"] == pytest.approx(difference, rel=1e-2)
    else:
        assert found["reason"] == f"its outputs differ by {difference:.2g} of the largest value"
        assert [tensor.name for tensor in onnx.load("out.onnx").graph.initializer] == ["w"]
        assert found["nodes_after"] == 3


def test_every_image_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the brighter image shows the difference: what is above 0.5 is cut off."""
    made = network()
    made.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "most"))
    made.graph.node[1].CopyFrom(helper.make_node("Min", ["c", "most"], ["r"], "min"))
    found = simplify_with(monkeypatch, made)
    assert (found["simplified"], found["reason"]) == (
        False,
        "its outputs differ by 0.5 of the largest value",
    )


def test_a_simplified_graph_that_cannot_run_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = simplify_with(monkeypatch, None, "onnxsim ended with 1: odd")
    assert found == {
        "simplified": False,
        "reason": "onnxsim ended with 1: odd",
        "nodes_before": 3,
        "nodes_after": 3,
    }
    assert len(onnx.load("out.onnx").graph.node) == 3
