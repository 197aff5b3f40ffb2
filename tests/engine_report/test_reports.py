"""A report makes an engine `validated` only if it is whole and its own numbers pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginery.actions.validate import slower
from enginery.cli.main import main
from enginery.evaluation.engine_report import EngineReport, GpuRecord, Times, noise
from enginery.project.paths import engine_report
from enginery.registry.records import parse
from enginery.registry.store import Engine, find
from enginery.system.files import read_json, write_json
from tests.child import load_child
from tests.registered import (
    GPU,
    change_manifest,
    closeness,
    compared,
    profile,
    register,
    report,
    times,
    timing,
)

PATH = engine_report("m", "server", "fp16")
Report = dict[str, Any]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.chdir(tmp_path)
    return register("m/server/fp16")


def test_a_whole_report_of_these_bytes_makes_an_engine_validated(engine: Engine) -> None:
    assert (engine.state, engine.gpu_check.reason) == ("candidate", "")
    write_json(PATH, report(engine))
    assert (engine.state, engine.gpu_check.reason) == ("validated", "")


def test_a_report_of_every_point_of_all_profiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = register(
        "m/server/fp16", profile=profile(1, 2, 4), profiles=[profile(1, 2, 4), profile(8, 8, 8)]
    )
    every = [(0, "opt", 2), (0, "min", 1), (0, "max", 4), (1, "opt", 8)]
    write_json(PATH, report(engine, *every))
    assert engine.state == "validated"
    for number in range(1, len(every)):
        write_json(PATH, report(engine, *every[:number], *every[number + 1 :]))
        assert "not of every point" in engine.gpu_check.reason
    far = report(engine, *every)
    far["points"][2]["closeness"] = closeness(0.5)
    write_json(PATH, far)
    assert "profile 0 at max (4, 3, 160, 160): raw outputs differ by 0.5" in engine.gpu_check.reason


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


def test_the_tolerance_that_the_engine_was_registered_with_counts(engine: Engine) -> None:
    write_json(PATH, report(engine))
    path = engine.folder / "manifest.json"
    manifest = read_json(path)
    manifest["steps"]["validate"]["report"]["closeness"]["rms_relative"] = manifest["metrics"][
        "rms_relative"
    ] = 0.0001
    manifest["steps"]["register"]["recipe"]["parameters"]["rms_relative"] = 0.0005
    write_json(path, manifest)
    assert (
        "raw outputs differ by 0.001 (RMS, relative), 0.0005 is allowed"
        in find("m").gpu_check.reason
    )


def test_a_hardware_compatible_engine_may_have_run_on_a_later_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    engine = register("m/server/fp16", hardware_compatible=True)
    write_json(PATH, report(engine, gpu={**GPU, "gpu": "Other", "compute_capability": "12.0"}))
    assert engine.state == "validated"
    write_json(PATH, report(engine, gpu={**GPU, "compute_capability": "7.5"}))
    assert "which it is not for" in engine.gpu_check.reason
    change_manifest(engine.folder, compute_capability=None, gpu=None)
    assert find("m").is_for("8.9", "Any")


def test_noisy_times_and_an_int8_that_gains_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    int8, fp16, fp32 = (register(f"m/server/{precision}") for precision in ("int8", "fp16", "fp32"))

    def measured(engine: Engine, *milliseconds: float, **changes: Any) -> EngineReport:
        return parse(
            json.dumps(report(engine, timing=timing(*milliseconds), **changes)).encode(),
            EngineReport,
        )

    assert noise(measured(fp32, 1.0).timing.gpu) == []
    assert slower(int8, measured(int8, 9.0)) == []
    write_json(PATH, report(fp16, timing=timing(1.0, 0.5), failures=["NaN"]))
    assert slower(int8, measured(int8, 9.0)) == []  # one that did not pass is no measure
    write_json(PATH, report(fp16, timing=timing(1.0, 0.5)))
    elsewhere = measured(int8, 9.0, gpu={**GPU, "uuid": "GPU-2"})
    assert (
        slower(fp32, measured(fp32, 9.0))
        == slower(int8, measured(int8, 1.01))
        == slower(int8, elsewhere)
        == []
    )
    assert slower(int8, measured(int8, 1.1, 0.4)) == []  # as a CUDA graph it gains
    [said] = slower(int8, measured(int8, 1.1, 0.6))
    assert said == "p50 is 1.10 ms, its fp16 sibling's 1.00 ms: INT8 gains nothing on this GPU"
    assert slower(int8, measured(int8, 1.1))


@pytest.mark.parametrize(
    "milliseconds", [np.full(7, 0.1), np.array([0.3]), np.random.default_rng(1).lognormal(size=99)]
)
def test_what_the_child_program_measures_are_times_of_a_report(milliseconds: Any) -> None:
    measured = load_child("running").statistics(milliseconds)
    assert parse(json.dumps(measured).encode(), Times).to_json() == measured


def test_what_the_child_program_tells_of_a_gpu_is_that_of_a_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices = load_child("devices")

    class Device:
        """As pycuda's."""

        def name(self) -> str:
            return "Card"

        def compute_capability(self) -> tuple[int, int]:
            return 12, 1

        def total_memory(self) -> int:
            return 1 << 30

    monkeypatch.setattr(devices.cuda, "get_driver_version", lambda: 13010, raising=False)
    monkeypatch.setattr(devices, "uuid", lambda index: "GPU-1")
    told = devices.describe(Device(), 0)
    assert parse(json.dumps(told).encode(), GpuRecord).to_json() == told
