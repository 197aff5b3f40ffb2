"""Closeness of outputs and the gate that judges it, each number exact."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from enginery.evaluation import gate
from enginery.evaluation.compare import Accumulator, OutputError
from enginery.vision import images, labels, results
from enginery.vision import tasks as head


def test_constants() -> None:
    assert images.SUFFIXES == (".bmp", ".jpeg", ".jpg", ".png", ".webp")
    assert (images.FILL, labels._MARGIN, labels._SHOWN) == (114, 0.01, 80)
    assert head.ULTRALYTICS_TASKS == ("detect", "segment", "pose", "obb", "classify")
    assert head.Metric("map50_95", "mAP50-95", "map50") == head.MAP
    assert head.Metric("top1", "top-1", "top5") == head.TOP1
    assert labels._FORMATS == {
        "detect": "`class x y width height` or `class x1 y1 x2 y2 x3 y3 ...`",
        "segment": "`class x1 y1 x2 y2 x3 y3 ...`",
        "obb": "`class x1 y1 x2 y2 x3 y3 x4 y4`",
        "pose": "`class x y width height` and the keypoints",
    }
    assert results._FONT == "DejaVuSans.ttf"


# Closeness


def test_closeness_by_hand() -> None:
    """Two images of two outputs; differences of 1, -2 and 2, squares of 9, against 9 + 16 + 1 + 4 +
    4 + 4 of the reference.
    """
    found = Accumulator()
    found.add([np.array([3, 4]), np.array([1])], [np.array([4, 4]), np.array([1])])
    found.add([np.array([2, -2]), np.array([2])], [np.array([0, -2]), np.array([4])])
    assert found.closeness() == OutputError(2.0, math.sqrt(9 / 38), 0, 0)


def test_nan_and_inf_are_counted_and_everything_else_goes_on() -> None:
    found = Accumulator()
    bad = np.array([math.nan, math.inf, -math.inf, 3, math.nan], np.float32)
    found.add([np.array([1, 1, 1, 2, 1], np.float32)], [bad])
    assert found.closeness() == OutputError(1.0, math.sqrt(1 / 8), 2, 2)
    found.add([np.array([1], np.float32)], [np.array([math.inf], np.float32)])
    assert found.closeness() == OutputError(1.0, math.sqrt(1 / 9), 2, 3)


def test_the_largest_difference_is_in_double_precision() -> None:
    found = Accumulator()
    found.add([np.array([1], np.float32)], [np.array([1 + 2**-12], np.float16)])
    found.add([np.array([16777216.0], np.float32)], [np.array([16777217], np.int64)])
    assert found.closeness().max_abs == 1.0


def test_a_reference_of_zeros() -> None:
    same, other = Accumulator(), Accumulator()
    assert same.closeness() == OutputError(0.0, 0.0, 0, 0)
    same.add([np.zeros(2)], [np.zeros(2)])
    other.add([np.zeros(2)], [np.array([0, 1e-9])])
    assert (same.closeness().rms_relative, other.closeness().rms_relative) == (0.0, 1.0)
    with pytest.raises(ValueError, match="zip"):
        other.add([np.zeros(2)], [])
    empty = Accumulator()
    empty.add([np.zeros(0)], [np.zeros(0)])
    assert empty.closeness() == OutputError(0.0, 0.0, 0, 0)


# The gate


def report(
    before: float,
    after: float,
    rms: float = 0.01,
    nan: int = 0,
    inf: int = 0,
    key: str = "map50_95",
) -> dict[str, Any]:
    return {
        "closeness": {"nan_count": nan, "inf_count": inf, "rms_relative": rms, "max_abs": 9.0},
        "reference": {key: before},
        "candidate": {key: after},
    }


TOLERANCE = {"rms_relative": 0.02, "map50_95_drop": 0.25, "top1_drop": 0.5}


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (report(0.75, 0.5), []),
        (
            report(0.75, 0.49999),
            ["mAP50-95 0.5000 against 0.7500 of the FP32 original, a drop of 0.25 is allowed"],
        ),
        (report(0.75, 0.9), []),
        (report(0.75, 0.75, rms=0.02), []),
        (
            report(0.75, 0.75, rms=0.0201),
            ["raw outputs differ by 0.02 (RMS, relative), 0.02 is allowed"],
        ),
        (
            report(0.75, 0.75, rms=1.234),
            ["raw outputs differ by 1.2 (RMS, relative), 0.02 is allowed"],
        ),
        (
            report(0.75, 0.75, rms=math.nan),
            ["raw outputs differ by nan (RMS, relative), 0.02 is allowed"],
        ),
        (report(0.75, 0.75, nan=2), ["2 NaN or Inf values in the outputs"]),
        (report(0.75, 0.75, inf=3), ["3 NaN or Inf values in the outputs"]),
        (report(0.75, 0.75, nan=2, inf=3, rms=9), ["5 NaN or Inf values in the outputs"]),
        (
            report(0.75, math.nan),
            ["mAP50-95 nan against 0.7500 of the FP32 original, a drop of 0.25 is allowed"],
        ),
        (
            report(0.0, 0.0),
            [
                "mAP50-95 of the FP32 original is 0: there is nothing to compare with; do the labels fit the model's classes?",
            ],
        ),
        (report(1.0, 0.5, key="top1"), []),
        (
            report(1.0, 0.25, key="top1"),
            ["top-1 0.2500 against 1.0000 of the FP32 original, a drop of 0.5 is allowed"],
        ),
        (
            report(0.75, 0.25, inf=1),
            [
                "1 NaN or Inf values in the outputs",
                "mAP50-95 0.2500 against 0.7500 of the FP32 original, a drop of 0.25 is allowed",
            ],
        ),
    ],
)
def test_the_gate_says_all_that_is_wrong(judged: dict[str, Any], said: list[str]) -> None:
    assert gate.failures(judged, TOLERANCE) == said


def test_the_distance_alone() -> None:
    assert list(gate.distance(report(1, 0, rms=0.5)["closeness"], {"rms_relative": 0.5})) == []
