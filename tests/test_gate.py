"""The gate, alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import GateError
from enginery.evaluation.gate import failures
from enginery.project.paths import build_folder, model_folder
from enginery.project.stage import Stage
from enginery.system.files import write_json
from tasks.register import register

TOLERANCE = {"map50_95_drop": 0.01, "rms_relative": 0.02}


def report(
    after: float = 0.7, rms: float = 0.001, nan: int = 0, before: float = 0.7
) -> dict[str, Any]:
    closeness = {"nan_count": nan, "inf_count": 0, "rms_relative": rms}
    return {
        "closeness": closeness,
        "reference": {"map50_95": before},
        "candidate": {"map50_95": after},
    }


@pytest.mark.parametrize(
    "passing", [report(), report(after=0.6901), report(after=0.9), report(rms=0.02)]
)
def test_passes(passing: dict[str, Any]) -> None:
    assert failures(passing, TOLERANCE) == []


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        (report(after=0.68), "mAP50-95 0.6800 against 0.7000"),
        (report(rms=0.03), "raw outputs differ"),
        (report(nan=4), "4 NaN or Inf"),
        (report(after=math.nan), "mAP50-95"),
        (report(rms=math.nan), "raw outputs differ"),
        (report(before=0.0, after=0.0), "mAP50-95 of the FP32 original is 0"),
    ],
)
def test_fails_with_the_reason(failing: dict[str, Any], words: str) -> None:
    [reason] = failures(failing, TOLERANCE)
    assert words in reason


def test_a_model_that_classifies_is_judged_by_its_first_guess() -> None:
    found = {
        "closeness": report()["closeness"],
        "reference": {"top1": 0.8, "top5": 1.0},
        "candidate": {"top1": 0.7, "top5": 1.0},
    }
    assert failures(found, {"top1_drop": 0.1 + 1e-9, "rms_relative": 0.02}) == []
    assert failures(found, {"top1_drop": 0.05, "rms_relative": 0.02}) == [
        "top-1 0.7000 against 0.8000 of the FP32 original, a drop of 0.05 is allowed"
    ]


@pytest.mark.parametrize(
    ("quantized", "cure"),
    [
        (
            ["conv"],
            "`enginery sensitivity m --propose` finds the fewest layers to keep in float with which it passes",
        ),
        ([], "loosen `validation` in params.yaml"),
    ],
)
def test_the_gate_speaks_first_and_needs_no_images(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quantized: list[str],
    cure: str,
) -> None:
    """Neither images nor params.yaml are there: nothing but the records is read."""
    monkeypatch.chdir(tmp_path)
    step = Stage("register", "m", "t", "int8")
    precision = model_folder("m", "int8")
    write_json(step.recipe, {"parameters": TOLERANCE})
    for part in ("export", "simplify"):
        write_json(model_folder("m", part) / "record.json", {})
    write_json(precision / "graph/record.json", {"quantized": quantized})
    write_json(precision / "validation.json", {"report": report(rms=0.03)})
    write_json(build_folder("m", "t", "int8") / "record.json", {})
    with pytest.raises(GateError) as error:
        register(step)
    assert str(error.value).startswith("m int8 for t is not registered: raw outputs differ by 0.03")
    assert cure in str(error.value)
