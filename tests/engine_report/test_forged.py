"""Reports that were forged or damaged leave a candidate."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from enginery.cli.main import main
from enginery.registry.store import Engine
from tests.engine_report.common import PATH, Report
from tests.registered import GPU, compared, report, times, timing


def under(*keys: Any, value: Any) -> Callable[[Report], None]:
    """Another value under these keys."""

    def change(found: Report) -> None:
        inner: Any = found
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def everywhere(found: Report, **compare: Any) -> None:
    """Other numbers in both places that hold them."""
    found["report"] = compared(**compare)
    found["points"][0]["closeness"] = found["report"]["closeness"]


def timed(found: Report, value: Any) -> None:
    found["timing"] = found["points"][0]["timing"] = value


def nan(found: Report) -> None:
    everywhere(found)
    found["report"]["closeness"]["rms_relative"] = float("nan")


FORGED: dict[str, tuple[Callable[[Report], object], str]] = {
    "two keys": (
        lambda found: [
            found.pop(key) for key in [*found] if key not in ("plan_sha256", "failures")
        ],
        "is not whole",
    ),
    "other bytes": (under("plan_sha256", value="1" * 64), "is of another plan"),
    "no digest": (under("plan_sha256", value="1"), "plan_sha256: string should match"),
    "failures": (under("failures", value=["NaN"]), "on its GPU: NaN"),
    "failures as text": (under("failures", value=""), "failures: input should be a valid array"),
    "a drop, no failure": (
        lambda found: everywhere(found, value=0.4),
        "mAP50-95 0.4000 against 0.5000",
    ),
    "outputs far, no failure": (
        lambda found: everywhere(found, rms=0.03),
        "raw outputs differ by 0.03",
    ),
    "NaN": (nan, "report.closeness.rms_relative: input should be a finite number"),
    "NaN counted": (
        under("points", 0, "closeness", "nan_count", value=1),
        "the first point is not what the report says",
    ),
    "a looser tolerance": (
        lambda found: (
            everywhere(found, rms=0.03),
            under("tolerance", "rms_relative", value=0.5)(found),
        ),
        "raw outputs differ by 0.03 (RMS, relative), 0.02 is allowed",
    ),
    "fails its own tolerance": (
        under("tolerance", "rms_relative", value=0.0001),
        "0.0001 is allowed",
    ),
    "a tolerance above 1": (
        under("tolerance", "map50_95_drop", value=2),
        "tolerance.map50_95_drop: input should be less",
    ),
    "of another task": (
        under("tolerance", value={"rms_relative": 0.02, "top1_drop": 1}),
        "names no loss of mAP50-95",
    ),
    "no points": (under("points", value=[]), "points: tuple should have at least 1 item"),
    "another point": (
        under("points", 0, "which", value="min"),
        "not of every point of the engine's profiles",
    ),
    "another shape": (
        under("points", 0, "shape", value=[8, 3, 160, 160]),
        "not of every point of the engine's profiles",
    ),
    "a negative time": (
        lambda found: timed(found, timing(-1.0)),
        "timing.gpu.mean: input should be greater than 0",
    ),
    "no time": (lambda found: timed(found, None), "timing: input should be an object"),
    "times that contradict": (
        lambda found: timed(found, {**timing(), "gpu": times(2.0, 1.0)}),
        "min, p50, p90, p99 and max are not in order",
    ),
    "noise": (
        lambda found: timed(found, {**timing(), "gpu": times(1.0, 1.5)}),
        "p90 is 1.5 times p50",
    ),
    "another card": (
        under("gpu", value={**GPU, "gpu": "Other"}),
        "it was run on Other (9.0), which it is not for",
    ),
    "no card": (under("gpu", value={}), "gpu.gpu is missing"),
    "a metric above 1": (
        under("report", "candidate", "map50_95", value=2),
        "report.candidate.map50_95: input should be less",
    ),
    "an original of 0": (
        under("report", "reference", "map50_95", value=0),
        "mAP50-95 of the FP32 original is 0",
    ),
    "two metrics": (
        under("report", "candidate", value={"top1": 1, "top5": 1, "per_class": {}}),
        "report: reference and candidate have different",
    ),
    "no metric": (
        under("report", "candidate", value={"per_class": {}}),
        "map50_95 and map50, or top1 and top5, are needed",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_report_leaves_a_candidate_with_the_reason(
    engine: Engine, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    forge, reason = FORGED[case]
    forged = report(engine)
    forge(forged)
    PATH.parent.mkdir(parents=True)
    PATH.write_text(json.dumps(forged))
    assert engine.state == "candidate"
    assert reason in engine.gpu_check.reason
    assert main(["list", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert (listed["state"], listed["checked"], listed["reason"]) == (
        "candidate",
        "candidate",
        engine.gpu_check.reason,
    )
    for command in (["list"], ["show", "m"], ["show", "m", "--json"]):
        assert main(command) == 0


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "<<<<<<< HEAD\n{}\n=======\n", '{"plan_sha256": ' + "9" * 5000],
)
def test_a_damaged_report_leaves_a_candidate_with_the_reason(engine: Engine, content: str) -> None:
    PATH.parent.mkdir(parents=True)
    PATH.write_text(content)
    assert engine.state == "candidate"
    assert f"its report does not count: {PATH} " in engine.gpu_check.reason
    PATH.unlink()
    PATH.mkdir()
    assert "is no file" in engine.gpu_check.reason
