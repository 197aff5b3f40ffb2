"""The gate of single outputs, of agreement and of overflow, each number and word exact."""

from __future__ import annotations

from typing import Any

import pytest

from enginery.evaluation import gate

TOLERANCE = {"rms_relative": 0.02, "cosine_drop": 0.25}


def judged(measured: dict[str, dict[str, float]], **cosines: float) -> dict[str, Any]:
    """A report of outputs that are judged one by one."""
    return {
        "closeness": {"nan_count": 0, "inf_count": 0, "rms_relative": 0.0},
        "reference": {"cosine": 1.0},
        "candidate": {"cosine": 1.0, "per_class": cosines},
        "outputs": measured,
    }


def limited(**limits: float) -> dict[str, Any]:
    return {**TOLERANCE, "outputs": {"boxes": limits}}


NEAR = judged({"boxes": {"rms_relative": 0.125, "max_abs": 2.5}}, boxes=0.75)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({}, []),
        ({"rms": 0.125, "max": 2.5, "cosine": 0.75}, []),
        ({"rms": 0.124}, ["output boxes: rms 0.12, 0.12 is allowed"]),
        ({"max": 2.0}, ["output boxes: max 2.5, 2 is allowed"]),
        ({"cosine": 0.875}, ["output boxes: cosine 0.7500, 0.875 is asked for"]),
        (
            {"rms": 0.1, "max": 2.4, "cosine": 1},
            [
                "output boxes: rms 0.12, 0.1 is allowed",
                "output boxes: max 2.5, 2.4 is allowed",
                "output boxes: cosine 0.7500, 1 is asked for",
            ],
        ),
    ],
)
def test_each_output_has_limits_of_its_own(limits: dict[str, float], said: list[str]) -> None:
    assert gate.failures(NEAR, limited(**limits)) == said


def test_what_is_no_number_is_beyond_every_limit() -> None:
    nan = float("nan")
    report = judged({"boxes": {"rms_relative": nan, "max_abs": nan}}, boxes=nan)
    assert gate.failures(report, limited(rms=1, max=1)) == [
        "output boxes: rms nan, 1 is allowed",
        "output boxes: max nan, 1 is allowed",
        "output boxes: cosine nan, 0 is asked for",
    ]


def test_an_opposite_output_fails_without_a_limit() -> None:
    report = judged({"boxes": {"rms_relative": 2.0, "max_abs": 2.0}}, boxes=-0.5)
    assert gate.failures(report, limited()) == ["output boxes: cosine -0.5000, 0 is asked for"]


def test_an_output_that_the_model_has_not_is_named_and_the_others_are_judged() -> None:
    report = judged({"a": {"rms_relative": 9.0, "max_abs": 9.0}}, a=1.0)
    tolerance = {**TOLERANCE, "outputs": {"boxes": {}, "a": {"rms": 1.0}}}
    assert gate.failures(report, tolerance) == [
        "`outputs` names boxes, and the model has a",
        "output a: rms 9, 1 is allowed",
    ]
    other = judged({"a": {}, "b": {}})
    assert gate.failures(other, limited()) == ["`outputs` names boxes, and the model has a, b"]
    del other["outputs"]
    alone = "`outputs` names boxes, and the model has none that is judged alone"
    assert gate.failures(other, limited()) == [alone]


def test_agreement_is_called_so() -> None:
    report = {**judged({}), "truth": "original"}
    report["candidate"] = {"cosine": 0.5, "per_class": {}}
    said = (
        "cosine (agreement) 0.5000 against 1.0000 of the FP32 original, a drop of 0.25 is allowed"
    )
    assert gate.failures(report, TOLERANCE) == [said]


def test_the_layer_that_overflows_comes_first() -> None:
    report = judged({})
    report["closeness"] |= {"inf_count": 2, "first_overflow": "MatMul /a (matmul)"}
    assert gate.failures(report, TOLERANCE) == [
        "FP16 overflows, first in MatMul /a (matmul): name it in `fp32_layers` of the model",
        "2 NaN or Inf values in the outputs",
    ]
    assert list(gate.overflow({"first_overflow": ""})) == list(gate.overflow({})) == []
