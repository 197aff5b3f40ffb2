"""Reports that make an engine validated, and measurements that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginery.actions.validate import slower
from enginery.evaluation.engine_report import EngineReport, GpuRecord, Times, noise
from enginery.registry.records import parse
from enginery.registry.store import Engine, find
from enginery.system.files import read_json, write_json
from tests.child import load_child
from tests.engine_report.common import PATH
from tests.registered import GPU, change_manifest, closeness, profile, register, report, timing


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
