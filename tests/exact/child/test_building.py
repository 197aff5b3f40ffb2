"""A whole build: its plan, its result, its timing caches and its progress."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import (
    TACTIC,
    base,
    building,
    caches,
    devices,
    progress,
    refused,
    request,
)
from tests.recorder.building import ILogger


def build(out: Out, tmp_path: Path, trt: Any = None, **changed: Any) -> Any:
    (tmp_path / "g.onnx").write_bytes(b"graph")
    trt = trt or tensorrt()
    logger = base.make_logger(trt, out)
    asked = request(onnx=str(tmp_path / "g.onnx"), plan=str(tmp_path / "p"), **changed)
    building.build(trt, logger, asked, out)
    return trt


def test_a_build_writes_its_plan_and_says_what_it_is(
    out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 107.5])
    monkeypatch.setattr(building, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    usage = SimpleNamespace(
        RUSAGE_SELF="self",
        getrusage=lambda who: SimpleNamespace(ru_maxrss=3072 if who == "self" else 0),
    )
    monkeypatch.setattr(building, "resource", usage)
    monkeypatch.setattr(
        building, "full_version", lambda runtime, trt: f"{runtime} {trt.__version__}"
    )
    trt = build(out, tmp_path, dla_core=1)
    assert (tmp_path / "p").read_bytes() == b"plan"
    assert out.sent == [
        {
            "event": "result",
            "plan_sha256": hashlib.sha256(b"plan").hexdigest(),
            "plan_bytes": 4,
            "weights_sha256": None,
            "seconds": 7.5,
            "peak_memory_mib": 3.0,
            "runtime_version": "tensorrt 10.16.1",
            "skipped_tactics": 0,
            "dla_fallback": [],
            "layers": [],
            "refittable_weights": [],
        }
    ]
    network, config = trt.made["built"]
    assert [network] == trt.made["INetworkDefinition"]
    assert [config] == trt.made["IBuilderConfig"]
    assert config.DLA_core == 1
    assert config._cache is None


def test_a_build_of_what_can_be_refitted(out: Out, tmp_path: Path) -> None:
    trt = tensorrt(layers=("gpu a",))
    logger = base.make_logger(trt, out)
    logger.log(ILogger.WARNING, TACTIC)
    (tmp_path / "g.onnx").write_bytes(b"graph")
    asked = request(
        onnx=str(tmp_path / "g.onnx"),
        plan=str(tmp_path / "p"),
        refittable=True,
        version_compatible=True,
        dla_core=0,
    )
    building.build(trt, logger, asked, out)
    found = out.sent[-1]
    assert (found["refittable_weights"], found["dla_fallback"], found["skipped_tactics"]) == (
        ["a", "b"],
        ["gpu a"],
        1,
    )
    [refitter], runtimes = trt.made["Refitter"], trt.made["Runtime"]
    assert [runtime.engine_host_code_allowed for runtime in runtimes] == [True, True]
    assert [runtime._logger for runtime in runtimes] == [logger, logger]
    assert trt.made["loaded"] == [b"plan"]
    assert (refitter._engine, refitter._logger) == (trt.made["ICudaEngine"][1], logger)


def test_a_plan_that_does_not_load(out: Out, tmp_path: Path) -> None:
    trt = tensorrt(loads=False)
    logger = base.make_logger(trt, out)
    logger.log(ILogger.ERROR, "the tag does not match")
    with refused("build", "its own plan does not load: the tag does not match"):
        building.refittable_weights(trt, logger, b"plan", request(refittable=True))
    assert trt.made["Runtime"][0].engine_host_code_allowed is False


def test_timing_caches_of_a_build(out: Out, tmp_path: Path) -> None:
    paths = caches(tmp_path, b"a", b"b")
    trt = build(out, tmp_path, timing_cache=str(tmp_path / "t"), timing_caches=paths)
    assert (tmp_path / "t").read_bytes() == b"a+b"
    assert trt.made["built"][1]._cache._data == b"a+b"


def test_a_failed_build_keeps_what_it_measured(out: Out, tmp_path: Path) -> None:
    with refused("build", "TensorRT gave no reason"):
        build(
            out,
            tmp_path,
            tensorrt(plan=None),
            timing_cache=str(tmp_path / "t"),
            timing_caches=caches(tmp_path, b"a"),
        )
    assert (tmp_path / "t").read_bytes() == b"a"
    assert not (tmp_path / "p").exists()
    trt = tensorrt(plan=None)
    logger = base.make_logger(trt, out)
    logger.log(ILogger.ERROR, "out of memory")
    with refused("memory", "out of memory"):
        building.build(trt, logger, request(onnx=str(tmp_path / "g.onnx"), plan="none"), out)


def test_the_context_of_a_build(monkeypatch: pytest.MonkeyPatch, out: Out) -> None:
    """Only native calibration uses the GPU itself."""
    monkeypatch.setattr(devices, "Context", lambda: "context")
    assert building.gpu(request(native_images="i.npy")) == "context"
    with building.gpu(request()) as found:
        assert found is None
    calls: list[Any] = []
    trt = tensorrt()
    monkeypatch.setattr(building, "load", lambda runtime: calls.append(runtime) or trt)
    monkeypatch.setattr(building, "build", lambda *given: calls.append(given))
    asked = request()
    building.main(asked, out)
    assert calls[0] == "tensorrt"
    found, logger, given, stream = calls[1]
    assert (found, given, stream, isinstance(logger, ILogger)) == (trt, asked, out, True)
    logger.log(ILogger.ERROR, "bad")
    assert out.sent[-1]["message"] == "bad"


def test_progress_is_told_five_times_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, out: Out
) -> None:
    clock = iter([10.0, 10.2, 10.21, 10.41, 10.42, 20.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monitor = progress.make_monitor(tensorrt(), out)
    assert monitor._made
    monitor.phase_start("tactics", "all", 9)
    for step in range(4):
        assert monitor.step_complete("tactics", step) is True
    monitor.phase_finish("tactics")
    monitor.phase_finish("never begun")
    assert monitor.step_complete("tactics", 4) is True
    monitor.step_complete("tactics", 5)
    assert out.sent == [
        {"event": "progress", "phase": "tactics", "step": 0, "steps": 9},
        {"event": "progress", "phase": "tactics", "step": 2, "steps": 9},
        {"event": "progress", "phase": "tactics", "step": 4, "steps": 0},
        {"event": "progress", "phase": "tactics", "step": 5, "steps": 0},
    ]


def table(rows: list[tuple[bytes, int, int]], total: int) -> bytes:
    data = bytearray(total)
    for number, row in enumerate(rows):
        struct.pack_into("<8sQQ", data, 64 + 24 * number, *row)
    for index in range(min(total, 64)):
        data[index] = 1
    return bytes(data)


def test_the_digest_of_the_weights_section() -> None:
    rows = [(b"ABCD", 0, 5), (b"THGWxxxx", 500, 12), (b"THGW", 0, 1)]
    data = bytearray(table(rows, 600))
    data[500:512] = b"the weights!"
    assert building.weights_digest(bytes(data)) == hashlib.sha256(b"the weights!").hexdigest()
    data[500:512] = b"other weight"
    assert building.weights_digest(bytes(data)) == hashlib.sha256(b"other weight").hexdigest()
    assert building.weights_digest(table([(b"ABCD", 0, 5)], 600)) is None
    assert building.weights_digest(b"plan") is None
    beyond = table([(b"THGW", 590, 11)], 600)
    assert building.weights_digest(beyond) is None
    assert (
        building.weights_digest(table([(b"THGW", 590, 10)], 600))
        == hashlib.sha256(bytes(10)).hexdigest()
    )
    last = [(b"ABCD", 0, 5)] * 15 + [(b"THGW", 0, 64)]
    assert building.weights_digest(table(last, 448)) == hashlib.sha256(b"\1" * 64).hexdigest()
    assert building.weights_digest(table([(b"ABCD", 0, 5)] * 16 + [(b"THGW", 0, 64)], 600)) is None
    assert building.weights_digest(table(last, 448)[:447]) is None
