"""The child program, part by part, against recorders of TensorRT, pycuda and the driver: every
setting, byte and message.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import os
import signal
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.child import (
    BuilderFlag,
    Cuda,
    DataType,
    DeviceType,
    HardwareCompatibilityLevel,
    ICudaEngine,
    ILogger,
    INetworkDefinition,
    MemoryPoolType,
    OldParserError,
    Out,
    ParserError,
    ProfilingVerbosity,
    load_child,
    tensorrt,
)

base, probing, timing, calibrating, devices, engines = map(
    load_child, ("base", "probing", "timing", "calibrating", "devices", "engines")
)
building, inspecting, refitting, running, main_ = map(
    load_child, ("building", "inspecting", "refitting", "running", "__main__")
)


def request(**changed: Any) -> dict[str, Any]:
    """A build as the client asks for it, all options at their defaults."""
    found: dict[str, Any] = {
        "runtime": "tensorrt",
        "onnx": "g.onnx",
        "plan": "g.plan",
        "name": "g",
        "gpu": None,
        "compute_capability": None,
        "profiles": [],
        "workspace_mib": None,
        "optimization_level": None,
        "tactic_sources": None,
        "strongly_typed": False,
        "tf32": False,
        "sparsity": False,
        "version_compatible": False,
        "hardware_compatible": False,
        "refittable": False,
        "dla_core": None,
        "timing_caches": [],
        "timing_cache": None,
        "precision": "fp32",
        "cache": None,
        "fp16_layers": [],
        "native_images": None,
    }
    assert changed.keys() <= found.keys()
    return {**found, **changed}


@pytest.fixture
def out() -> Out:
    return Out()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda()
    for module in (devices, engines, running):
        monkeypatch.setattr(module, "cuda", found)
    return found


def refused(kind: str, message: str) -> Any:
    return _Refused(kind, message)


class _Refused:
    """Expects a refusal of this kind with exactly these words."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind, self.message = kind, message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        assert isinstance(error, base.RefusedError), error
        assert (error.kind, str(error)) == (self.kind, self.message)
        return True


def test_constants() -> None:
    assert base.NO_RANGE == "Missing scale and zero-point for tensor"
    assert base.HARMLESS == (
        "myelinCache.h::deserializeFromBuffer",
        "The timing cache will not be used",
    )
    assert base.SKIPPED == ("Skipping tactic", "insufficient memory")
    assert base.NO_ROOM == "insufficient to use tactic"
    assert building.MEANINGS == {
        "out of memory": "memory",
        "outofmemory": "memory",
        "insufficient workspace": "memory",
        "unable to load library": "library",
    }
    assert (running.WARM_UP_S, running.TRIES, running.CapturedGraph.RELAXED) == (1, 3, 2)
    assert (inspecting.WARM_UP_RUNS, inspecting.RUNS, main_.PR_SET_PDEATHSIG) == (20, 50, 1)
    assert main_.WORK == {
        "probe": "probing",
        "build": "building",
        "refit": "refitting",
        "measure": "running",
        "inspect": "inspecting",
    }
    assert probing.PACKAGES == {
        "tensorrt_rtx": ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
        "tensorrt": ("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
    }


# base


def test_events_go_to_what_was_standard_output_and_prints_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream, calls = io.StringIO(), list[Any]()
    flushed: list[str] = []
    stream.flush = lambda: flushed.append(stream.getvalue())  # type: ignore[method-assign]
    fake = SimpleNamespace(
        dup=lambda number: 100 + number,
        dup2=lambda *numbers: calls.append(numbers),
        fdopen=lambda *given, **named: calls.append((given, named)) or stream,
    )
    monkeypatch.setattr(base, "os", fake)
    sender = base.Out()
    assert calls == [((101, "w"), {"encoding": "utf-8"}), (2, 1)]
    sender.send("log", severity="debug", message="ü")
    assert stream.getvalue() == '{"severity": "debug", "message": "\\u00fc", "event": "log"}\n'
    sender.send("result")
    assert flushed == [stream.getvalue().splitlines(True)[0], stream.getvalue()]


def test_a_module_that_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert base.load("json") is json
    with refused("toolchain", "cannot import no_such_module: No module named 'no_such_module'"):
        base.load("no_such_module")

    def fail(name: str) -> Any:
        raise OSError("libnvinfer.so.10: cannot open shared object file")

    monkeypatch.setattr(base, "importlib", SimpleNamespace(import_module=fail))
    with refused(
        "toolchain", "cannot import tensorrt: libnvinfer.so.10: cannot open shared object file"
    ):
        base.load("tensorrt")


TACTIC = "Skipping tactic 0x1 due to insufficient memory on requested size"


@pytest.mark.parametrize(
    ("severity", "message", "sent"),
    [
        (ILogger.INTERNAL_ERROR, "bad", "error"),
        (ILogger.ERROR, "bad", "error"),
        (ILogger.WARNING, "odd", "warning"),
        (ILogger.INFO, "so", "debug"),
        (ILogger.VERBOSE, "much", None),
        (ILogger.ERROR, "a myelinCache.h::deserializeFromBuffer b", "debug"),
        (ILogger.ERROR, "The timing cache will not be used!", "debug"),
        (ILogger.WARNING, TACTIC, "debug"),
        (ILogger.VERBOSE, TACTIC, "debug"),
        (ILogger.ERROR, TACTIC, "error"),
        (ILogger.WARNING, "Skipping tactic 3", "warning"),
        (ILogger.WARNING, "insufficient memory", "warning"),
        (ILogger.WARNING, "GPU memory is insufficient to use tactic 0x1", "debug"),
        (ILogger.WARNING, "Missing scale and zero-point for tensor x", "debug"),
        (ILogger.WARNING, "Oh: Missing scale and zero-point for tensor x", "warning"),
        (ILogger.INFO, "Missing scale and zero-point for tensor x", "debug"),
    ],
)
def test_what_tensorrt_says_goes_on(
    out: Out, severity: int, message: str, sent: str | None
) -> None:
    logger = base.make_logger(tensorrt(), out)
    logger.log(severity, message)
    assert out.sent == (
        [] if sent is None else [{"event": "log", "severity": sent, "message": message}]
    )
    assert logger.errors == ([message] if sent == "error" else [])
    assert logger.skipped == (1 if message == TACTIC and sent == "debug" else 0)
    assert logger._made


def test_the_last_three_errors_are_the_reason(out: Out) -> None:
    logger = base.make_logger(tensorrt(), out)
    assert logger.reason() == ""
    for message in ("one", "two", "three", "four"):
        logger.log(ILogger.ERROR, message)
    assert logger.reason() == "two; three; four"
    logger.log(ILogger.WARNING, TACTIC)
    logger.log(ILogger.WARNING, TACTIC)
    assert logger.skipped == 2


def test_a_plan_is_read_only_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_bytes(b"\xff\x00plan")
    digest = hashlib.sha256(b"\xff\x00plan").hexdigest()
    assert (
        base.read_plan({"plan": str(tmp_path / "a.plan"), "plan_sha256": digest}) == b"\xff\x00plan"
    )
    with refused("integrity", "its digest is not the one recorded"):
        base.read_plan({"plan": str(tmp_path / "a.plan"), "plan_sha256": digest[::-1]})


def test_files_are_on_the_disk_before_they_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, calls = os.replace, list[Any]()

    def fsync(number: int) -> None:
        path = Path(f"/proc/self/fd/{number}").readlink()
        calls.append(("sync", path.read_bytes() if path.is_file() else "folder"))

    def move(source: str, target: str) -> None:
        assert Path(source).parent == tmp_path
        assert str(os.getpid()) in Path(source).name
        calls.append(("move", Path(source).read_bytes(), target))
        replace(source, target)

    monkeypatch.setattr(base.os, "fsync", fsync)
    monkeypatch.setattr(base.os, "replace", move)
    base.write(str(tmp_path / "a"), b"\xffdata")
    assert (tmp_path / "a").read_bytes() == b"\xffdata"
    assert calls == [("sync", b"\xffdata")]
    base.write_whole(str(tmp_path / "b"), b"more")
    assert calls[1:3] == [("sync", b"more"), ("move", b"more", f"{tmp_path}/b")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == b"more"


# main


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, out: Out) -> Any:
    """Run the program on a request with this work; returns its exit code."""
    imported: list[str] = []

    def ask(work: Any, **fields: Any) -> Any:
        def load(name: str) -> Any:
            imported.append(name)
            return SimpleNamespace(main=work)

        monkeypatch.setattr(main_, "importlib", SimpleNamespace(import_module=load))
        monkeypatch.setattr(main_, "Out", lambda: out)
        monkeypatch.setattr(main_, "die_with_parent", lambda: imported.append("die with parent"))
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(fields)))
        return main_.main()

    ask.imported = imported  # type: ignore[attr-defined]
    return ask


def test_a_request_is_done_by_its_module(asked: Any, out: Out) -> None:
    seen: list[Any] = []
    assert asked(lambda request, stream: seen.append((request, stream)), do="build", plan="p") == 0
    assert seen == [({"do": "build", "plan": "p"}, out)]
    assert asked.imported == ["die with parent", "building"]
    assert out.sent == []


def test_a_plan_with_a_digest_is_read_first(asked: Any, out: Out, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"data")
    digest, seen = hashlib.sha256(b"data").hexdigest(), list[Any]()
    given = {"do": "measure", "plan": str(tmp_path / "p"), "plan_sha256": digest}
    assert asked(lambda request, stream: seen.append(request), **given) == 0
    assert seen == [{**given, "data": b"data"}]
    assert asked(lambda request, stream: seen.append(request), **{**given, "plan_sha256": "0"}) == 1
    assert len(seen) == 1
    assert out.sent == [
        {"event": "error", "kind": "integrity", "message": "its digest is not the one recorded"}
    ]
    assert asked.imported == ["die with parent", "running", "die with parent"]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (base.RefusedError("parse", "a  b\n c"), "parse", "a b c"),
        (ImportError("No module named 'pycuda'"), "pycuda", "No module named 'pycuda'"),
        (MemoryError(), "memory", "out of memory"),
        (OSError(28, "No space left on device", "/a/b"), "file", "No space left on device: /a/b"),
        (OSError("odd"), "file", "odd: the.plan"),
        (
            type("LogicError", (Exception,), {"__module__": "pycuda._driver"})("cuInit failed"),
            "gpu",
            "cuInit failed",
        ),
    ],
)
def test_what_goes_wrong_is_one_event(
    asked: Any, out: Out, error: Exception, kind: str, message: str
) -> None:
    def work(request: Any, stream: Any) -> None:
        raise error

    assert asked(work, do="build", plan="the.plan") == 1
    assert out.sent == [{"event": "error", "kind": kind, "message": message}]


def test_a_mistake_of_its_own_is_raised(asked: Any, out: Out) -> None:
    def work(request: Any, stream: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asked(work, do="build")
    assert out.sent == []

    def no_file(request: Any, stream: Any) -> None:
        raise OSError("odd")

    assert asked(no_file, do="build") == 1
    assert out.sent == [{"event": "error", "kind": "file", "message": "odd:"}]


def test_it_dies_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    library = SimpleNamespace(prctl=lambda *given: calls.append(given))
    monkeypatch.setattr(
        main_, "ctypes", SimpleNamespace(CDLL=lambda name: calls.append(name) or library)
    )
    main_.die_with_parent()
    assert calls == [None, (1, signal.SIGKILL)]
    monkeypatch.setattr(main_, "sys", SimpleNamespace(platform="win32"))
    main_.die_with_parent()
    assert len(calls) == 2


# probe


REAL = [
    "strong typing",
    "fp8",
    "timing cache",
    "editable timing cache",
    "refit",
    "optimization level",
    "sparsity",
    "version compatible",
    "hardware compatible",
    "DLA",
    "progress",
]


def test_what_this_environment_is(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real bindings of TensorRT-RTX."""
    monkeypatch.setattr(probing, "visible_gpus", lambda: ([], "no driver", False))
    probing.main({"runtime": "tensorrt_rtx"}, out)
    [found] = out.sent
    assert found["features"] == REAL
    assert found["compute_capabilities"] == ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]
    assert (found["event"], found["runtime"], found["version"]) == (
        "result",
        "tensorrt_rtx",
        "1.7.1.116",
    )
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["platform"] == f"{sys.platform}_{os.uname().machine}"
    assert set(found) == {
        "event",
        "runtime",
        "version",
        "python",
        "platform",
        "features",
        "compute_capabilities",
        "gpus",
        "no_gpu",
        "blind",
    }


def test_a_probe_with_gpus(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the bindings name no compute capabilities, those of the GPUs count."""
    monkeypatch.setattr(
        probing, "load", lambda runtime: tensorrt() if runtime == "tensorrt" else None
    )
    monkeypatch.setattr(
        probing, "full_version", lambda runtime, trt: f"{runtime} {trt.__version__}"
    )
    monkeypatch.setattr(
        probing, "visible_gpus", lambda: ([{"compute_capability": "8.6"}], "why", "blind")
    )
    probing.main({"runtime": "tensorrt"}, out)
    [found] = out.sent
    assert (found["version"], found["compute_capabilities"]) == ("tensorrt 10.16.1", ["8.6"])
    assert (found["gpus"], found["no_gpu"], found["blind"]) == (
        [{"compute_capability": "8.6"}],
        "why",
        "blind",
    )


WEAK = {
    "weak typing": True,
    "strong typing": True,
    "calibrators": True,
    "fp8": False,
    "timing cache": True,
    "editable timing cache": True,
    "refit": True,
    "optimization level": True,
    "sparsity": True,
    "version compatible": True,
    "hardware compatible": True,
    "DLA": True,
    "progress": True,
}


def test_features_of_each_kind_of_bindings() -> None:
    assert probing.features(tensorrt()) == WEAK
    strong = probing.features(
        tensorrt(
            strong=True,
            without=("IInt8EntropyCalibrator2", "IProgressMonitor", "HardwareCompatibilityLevel"),
        )
    )
    changed = {name for name, has in strong.items() if has != WEAK[name]}
    assert changed == {
        "weak typing",
        "calibrators",
        "editable timing cache",
        "hardware compatible",
        "progress",
    }
    old = tensorrt()
    old.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    old.DataType = SimpleNamespace(FP8=6)
    old.BuilderFlag = SimpleNamespace(FP16=0)
    old.IBuilderConfig = object
    assert [name for name, has in probing.features(old).items() if has] == [
        "weak typing",
        "calibrators",
        "fp8",
        "hardware compatible",
        "progress",
    ]
    strong = tensorrt(strong=True)
    strong.NetworkDefinitionCreationFlag = object
    assert probing.features(strong)["strong typing"]


def test_named_compute_capabilities() -> None:
    names = type(
        "Names", (), {"SM120": 1, "SM75": 2, "SM103": 3, "SMALL": 4, "CURRENT": 5, "XSM80": 6}
    )
    assert probing.named_capabilities(SimpleNamespace(ComputeCapability=names)) == [
        "7.5",
        "10.3",
        "12.0",
    ]
    assert probing.named_capabilities(SimpleNamespace()) == []


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorrt_cu12": "10.16.1.11", "tensorrt_rtx_cu13": "1.7.1.116"}

    class MissingError(Exception):
        pass

    def version(package: str) -> str:
        if package not in installed:
            raise MissingError
        return installed[package]

    monkeypatch.setattr(
        probing, "metadata", SimpleNamespace(version=version, PackageNotFoundError=MissingError)
    )
    module = SimpleNamespace(__version__="8.6.1")
    assert probing.full_version("tensorrt", module) == "10.16.1.11"
    assert probing.full_version("tensorrt_rtx", module) == "1.7.1.116"
    installed.clear()
    assert probing.full_version("tensorrt", module) == "8.6.1"


def test_gpus_that_pycuda_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "visible", lambda: ([{"gpu": "Card"}], ""))
    assert probing.visible_gpus() == ([{"gpu": "Card"}], "", False)
    monkeypatch.setitem(sys.modules, "devices", None)
    for has in (True, False):
        monkeypatch.setattr(probing, "has_driver", lambda has=has: has)
        words = "NumPy or pycuda does not work: import of devices halted; None in sys.modules"
        assert probing.visible_gpus() == ([], words, has)


def test_a_driver_is_there_if_its_library_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    monkeypatch.setattr(probing, "ctypes", SimpleNamespace(CDLL=names.append))
    assert probing.has_driver() is True

    def fail(name: str) -> None:
        names.append(name)
        raise OSError

    monkeypatch.setattr(probing, "ctypes", SimpleNamespace(CDLL=fail))
    assert probing.has_driver() is False
    assert names == ["libcuda.so.1"] * 2


# GPUs


def test_each_visible_gpu_is_described(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "uuid", lambda index: f"GPU-{index}")
    two = Cuda(2)
    monkeypatch.setattr(devices, "cuda", two)
    assert devices.visible() == (
        [
            {
                "gpu": f"Card {number}",
                "uuid": f"GPU-{number}",
                "compute_capability": f"8.{6 + number}",
                "memory_mib": 24564,
                "driver_cuda": "12.8",
            }
            for number in range(2)
        ],
        "",
    )
    assert two.calls == ["init"]

    monkeypatch.setattr(two, "get_driver_version", lambda: 13000)
    assert devices.visible()[0][0]["driver_cuda"] == "13.0"

    def fail() -> None:
        raise two.Error("no CUDA-capable device is detected")

    monkeypatch.setattr(two, "init", fail)
    assert devices.visible() == ([], "no CUDA-capable device is detected")


def test_a_uuid_as_nvidia_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def get(raw: Any, index: Any) -> int:
        asked.append(index.value)
        raw.raw = bytes(range(16))
        return 0 if index.value == 1 else 3

    def library(name: str) -> Any:
        asked.append(name)
        return SimpleNamespace(cuDeviceGetUuid=get)

    fake = SimpleNamespace(
        CDLL=library, create_string_buffer=ctypes.create_string_buffer, c_int=ctypes.c_int
    )
    monkeypatch.setattr(devices, "ctypes", fake)
    assert devices.uuid(1) == "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert devices.uuid(0) == ""
    assert asked == ["libcuda.so.1", 1, "libcuda.so.1", 0]


def test_the_context_is_given_back(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[Any] = []
    monkeypatch.setattr(devices, "traceback", SimpleNamespace(clear_frames=cleared.append))
    with devices.Context() as context:
        assert isinstance(context, devices.Context)
        assert cuda.calls == ["init", ("retain", 0), "push"]
    assert cuda.calls[3:] == ["pop", "detach"]
    assert cleared == []
    with pytest.raises(ValueError, match="inside"), devices.Context():
        raise ValueError("inside")
    assert cuda.calls[8:] == ["pop", "detach"]
    [trace] = cleared
    assert trace.tb_frame.f_code.co_name == "test_the_context_is_given_back"


# Timing caches


def caches(folder: Path, *contents: bytes) -> list[str]:
    for number, content in enumerate(contents):
        (folder / f"{number}.timing").write_bytes(content)
    return [str(folder / f"{number}.timing") for number in range(len(contents))]


@pytest.mark.parametrize(
    ("contents", "merged", "left_out"),
    [
        ((), b"", []),
        ((b"a",), b"a", []),
        ((b"a", b"b", b"c"), b"a+b+c", []),
        ((b"", b"a"), b"a", [0]),
        ((b"other", b"a"), b"a", [0]),
        ((b"a", b"other", b"c"), b"a+c", [1]),
        ((b"other",), b"", [0]),
        ((b"a", b"", b"c"), b"a+c", [1]),
    ],
)
def test_timing_caches_are_merged(
    tmp_path: Path, out: Out, contents: tuple[bytes, ...], merged: bytes, left_out: list[int]
) -> None:
    trt = tensorrt()
    config = trt.Builder(None).create_builder_config()
    paths = caches(tmp_path, *contents)
    timing.load(trt, config, paths, out)
    assert config._cache._data == merged
    assert BuilderFlag.EDITABLE_TIMING_CACHE in config._flags
    assert out.sent == [
        {
            "event": "log",
            "severity": "warning",
            "message": f"{paths[number]}: not of this TensorRT and GPU, left out",
        }
        for number in left_out
    ]


def test_a_version_without_editable_caches(out: Out) -> None:
    trt = tensorrt(strong=True)
    config = trt.Builder(None).create_builder_config()
    timing.load(trt, config, [], out)
    assert config._flags == {BuilderFlag.TF32}
    assert config._cache._data == b""


def test_a_timing_cache_is_saved_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(timing, "write_whole", lambda *given: written.append(given))
    config = tensorrt().Builder(None).create_builder_config()
    config.set_timing_cache(config.create_timing_cache(b"measured"), False)
    timing.save(config, "a.timing")
    assert written == [("a.timing", b"measured")]
    assert type(written[0][1]) is bytes


# Calibration


def test_ranges_from_a_cache(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"TRT-8600-EntropyCalibration2\nx: 3c010a14\n\xff")
    trt = tensorrt()
    found = calibrating.from_cache(trt, str(tmp_path / "c"))
    assert isinstance(found, trt.IInt8EntropyCalibrator2)
    assert found._made
    assert (found.get_batch_size(), found.get_batch(["x"])) == (1, None)
    assert found.read_calibration_cache() == b"TRT-8600-EntropyCalibration2\nx: 3c010a14\n\xff"
    found.write_calibration_cache(b"other")
    assert (tmp_path / "c").read_bytes().startswith(b"TRT-8600")


@pytest.fixture
def native_cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    found = Cuda()
    package = SimpleNamespace(driver=found)
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", found)
    return found


def test_native_calibration_gives_full_batches_one_by_one(
    tmp_path: Path, native_cuda: Cuda
) -> None:
    """Five images in batches of two: the fifth is left out."""
    images = np.arange(5 * 3 * 2 * 2, dtype=np.float32).reshape(5, 3, 2, 2)
    np.save(tmp_path / "i.npy", images)
    trt = tensorrt()
    found = calibrating.native(trt, str(tmp_path / "i.npy"), 2, str(tmp_path / "cache"))
    assert isinstance(found, trt.IInt8EntropyCalibrator2)
    assert found._made
    [memory] = native_cuda.memory
    assert memory.size == 2 * 3 * 2 * 2 * 4
    assert (found.get_batch_size(), found.read_calibration_cache()) == (2, None)
    for start in (0, 2):
        assert found.get_batch(["x"]) == [1000]
        assert np.array_equal(memory.values, images[start : start + 2])
        assert not memory.freed
    assert found.get_batch(["x"]) is None
    assert memory.freed
    found.write_calibration_cache(memoryview(b"TRT-101601-EntropyCalibration2\n"))
    assert (tmp_path / "cache").read_bytes() == b"TRT-101601-EntropyCalibration2\n"


def test_native_calibration_leaves_the_images_on_the_disk(
    tmp_path: Path, native_cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 3, 2, 2), np.float32))
    load, loaded = np.load, list[Any]()
    monkeypatch.setattr(
        np, "load", lambda *given, **named: loaded.append(load(*given, **named)) or loaded[0]
    )
    calibrating.native(tensorrt(), str(tmp_path / "i.npy"), 2, "cache")
    assert isinstance(loaded[0], np.memmap)


def test_native_calibration_needs_one_batch(tmp_path: Path, native_cuda: Cuda) -> None:
    np.save(tmp_path / "i.npy", np.zeros((2, 3, 2, 2), np.float32))
    calibrating.native(tensorrt(), str(tmp_path / "i.npy"), 2, "cache")
    with refused("data", "calibration needs at least one batch of 3 images and has 2"):
        calibrating.native(tensorrt(), str(tmp_path / "i.npy"), 3, "cache")


# Building


def configured(out: Out | None = None, trt: Any = None, **changed: Any) -> Any:
    """The configuration that TensorRT would get."""
    trt = trt or tensorrt()
    builder = trt.Builder(None)
    return building.configure(
        trt, builder, builder.create_network(0), request(**changed), out or Out()
    )


def test_the_default_configuration() -> None:
    found = configured()
    assert found._flags == set()  # TF32 is TensorRT's default, not ours
    assert found.profiling_verbosity == ProfilingVerbosity.DETAILED
    assert (found._pools, found._tactics, found._profiles, found.int8_calibrator) == (
        {},
        None,
        [],
        None,
    )
    assert (found.builder_optimization_level, found.hardware_compatibility_level) == (
        3,
        HardwareCompatibilityLevel.NONE,
    )
    assert found.progress_monitor is not None
    assert configured(trt=tensorrt(without=("IProgressMonitor",))).progress_monitor is None


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"tf32": True}, {BuilderFlag.TF32}),
        ({"sparsity": True}, {BuilderFlag.SPARSE_WEIGHTS}),
        ({"version_compatible": True}, {BuilderFlag.VERSION_COMPATIBLE}),
        ({"refittable": True}, {BuilderFlag.REFIT}),
        ({"precision": "fp32"}, set()),
        ({"precision": "fp16"}, {BuilderFlag.FP16}),
        ({"precision": "int8"}, {BuilderFlag.FP16, BuilderFlag.INT8}),
        (
            {"precision": "int8", "fp16_layers": ["b"]},
            {BuilderFlag.FP16, BuilderFlag.INT8, BuilderFlag.PREFER_PRECISION_CONSTRAINTS},
        ),
        ({"precision": "fp16", "fp16_layers": ["b"]}, {BuilderFlag.FP16}),
        ({"precision": "int8", "strongly_typed": True, "fp16_layers": ["b"]}, set()),
    ],
)
def test_flags(options: dict[str, Any], flags: set[BuilderFlag]) -> None:
    assert configured(**options)._flags == flags


def test_options_with_values() -> None:
    found = configured(
        workspace_mib=64,
        optimization_level=0,
        tactic_sources=["CUDNN", "JIT_CONVOLUTIONS"],
        hardware_compatible=True,
    )
    assert found._pools == {MemoryPoolType.WORKSPACE: 64 * 1024 * 1024}
    assert (found.builder_optimization_level, found._tactics) == (0, 0b10100)
    assert found.hardware_compatibility_level == HardwareCompatibilityLevel.AMPERE_PLUS
    assert configured(tactic_sources=[])._tactics == 0
    assert configured(workspace_mib=0)._pools == {}
    with refused(
        "parameter",
        "tactic_sources: MINE: unknown; this version has CUBLAS, CUBLAS_LT, CUDNN, EDGE_MASK_CONVOLUTIONS, JIT_CONVOLUTIONS",
    ):
        configured(tactic_sources=["CUDNN", "MINE", "YOURS"])


def test_a_strongly_typed_tensorrt_and_rtx_get_no_precision() -> None:
    assert configured(trt=tensorrt(strong=True), precision="int8")._flags == set()
    rtx = configured(trt=tensorrt(strong=True), runtime="tensorrt_rtx")
    assert rtx._flags == {BuilderFlag.TF32}  # as it was: only tensorrt's is taken away
    assert rtx.profiling_verbosity == ProfilingVerbosity.LAYER_NAMES_ONLY


def test_excluded_layers_run_in_half_and_no_others() -> None:
    trt = tensorrt(layers=("a", "b", "c"))
    builder = trt.Builder(None)
    network = builder.create_network(0)
    building.configure(
        trt, builder, network, request(precision="int8", fp16_layers=["c", "a", "none"]), Out()
    )
    assert [network.get_layer(index).precision for index in range(3)] == [
        DataType.HALF,
        DataType.FLOAT,
        DataType.HALF,
    ]
    weak = builder.create_network(0)
    building.configure(trt, builder, weak, request(precision="fp16", fp16_layers=["a"]), Out())
    assert weak.get_layer(0).precision == DataType.FLOAT


def test_the_compute_capability_is_set_where_one_is_asked_for() -> None:
    calls: list[Any] = []
    config = SimpleNamespace(set_compute_capability=lambda *given: calls.append(given))
    trt = SimpleNamespace(ComputeCapability=SimpleNamespace(SM120="twelve", SM86="eight"))
    building.set_capability(trt, config, request(runtime="tensorrt_rtx", compute_capability="12.0"))
    assert (calls, config.num_compute_capabilities) == ([("twelve", 0)], 1)
    building.set_capability(trt, config, request())
    assert len(calls) == 1
    with refused("toolchain", "this tensorrt_rtx knows no compute capability 9.0"):
        building.set_capability(
            trt, config, request(runtime="tensorrt_rtx", compute_capability="9.0")
        )


def test_the_real_builder_of_tensorrt_rtx_takes_the_configuration(out: Out, tmp_path: Path) -> None:
    """Flags, profile and capability, read back from the real bindings."""
    import tensorrt_rtx as trt

    from tests.test_toolchain import graph

    asked = request(
        runtime="tensorrt_rtx",
        onnx=str(graph(tmp_path / "g.onnx", batch="n")),
        compute_capability="8.9",
        refittable=True,
        name="mine",
        sparsity=True,
        version_compatible=False,
        workspace_mib=5,
        optimization_level=1,
        tactic_sources=["JIT_CONVOLUTIONS"],
        profiles=[{"x": {"min": [1, 3, 16, 16], "opt": [2, 3, 16, 16], "max": [4, 3, 16, 16]}}],
    )
    logger = base.make_logger(trt, out)
    builder = building.make_builder(trt, logger)
    network, parser = building.parse(trt, builder, logger, asked)
    config = building.configure(trt, builder, network, asked, out)
    assert network.name == "mine"
    flags = {flag for flag in trt.BuilderFlag.__members__.values() if config.get_flag(flag)}
    assert flags == {trt.BuilderFlag.TF32, trt.BuilderFlag.SPARSE_WEIGHTS, trt.BuilderFlag.REFIT}
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 5 << 20
    assert (
        config.builder_optimization_level,
        config.num_compute_capabilities,
        config.num_optimization_profiles,
    ) == (1, 1, 1)
    assert config.get_compute_capability(0) == trt.ComputeCapability.SM89
    assert config.get_tactic_sources() == 1 << int(trt.TacticSource.JIT_CONVOLUTIONS)
    del parser


PROFILE = {"min": [1, 3, 8, 8], "opt": [4, 3, 8, 8], "max": [8, 3, 8, 8]}


def test_profiles_in_their_order() -> None:
    other = {"min": [2], "opt": [3], "max": [4]}
    found = configured(profiles=[{"x": PROFILE, "y": other}, {"x": other}])
    assert [profile._shapes for profile in found._profiles] == [
        {"x": ([1, 3, 8, 8], [4, 3, 8, 8], [8, 3, 8, 8]), "y": ([2], [3], [4])},
        {"x": ([2], [3], [4])},
    ]
    with refused("profile", "the shape is refused"):
        configured(profiles=[{"refused": PROFILE}])
    with refused("profile", "incompatible arguments"):
        configured(profiles=[{"x": {**PROFILE, "min": None}}])
    with refused("profile", f"TensorRT refused the optimization profile {{'bad': {PROFILE}}}"):
        configured(profiles=[{"bad": PROFILE}])


def test_int8_takes_its_ranges_from_the_cache(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"TRT-101601-EntropyCalibration2\nx: 3c010204\n")
    found = configured(precision="int8", cache=str(tmp_path / "c"))
    assert (
        found.int8_calibrator.read_calibration_cache()
        == b"TRT-101601-EntropyCalibration2\nx: 3c010204\n"
    )
    assert configured(precision="fp16", cache=str(tmp_path / "c")).int8_calibrator is None
    assert configured(precision="int8").int8_calibrator is None


@pytest.mark.parametrize(
    ("profiles", "batch"), [([], 4), ([{"x": {**PROFILE, "opt": [6, 3, 8, 8]}}, {"x": PROFILE}], 6)]
)
def test_int8_of_its_own_calibration(
    monkeypatch: pytest.MonkeyPatch, profiles: Any, batch: int
) -> None:
    """In batches of the network's own size, or of the first profile's optimum."""
    asked: list[Any] = []
    monkeypatch.setattr(calibrating, "native", lambda trt, *given: asked.append(given) or "native")
    found = configured(precision="int8", cache="cache", native_images="i.npy", profiles=profiles)
    assert (found.int8_calibrator, asked) == ("native", [("i.npy", batch, "cache")])


def test_dla_runs_what_it_can() -> None:
    trt = tensorrt(layers=("one", "gpu two", "three", "gpu four"))
    builder = trt.Builder(None)
    network, config = builder.create_network(0), builder.create_builder_config()
    assert building.use_dla(trt, builder, network, config, None) == []
    assert (config._flags, config.default_device_type) == ({BuilderFlag.TF32}, DeviceType.GPU)
    assert building.use_dla(trt, builder, network, config, 0) == ["gpu two", "gpu four"]
    assert config._flags == {BuilderFlag.TF32, BuilderFlag.GPU_FALLBACK}
    assert (config.default_device_type, config.DLA_core) == (DeviceType.DLA, 0)
    building.use_dla(trt, builder, network, config, 1)
    assert config.DLA_core == 1
    for core in (2, 3):
        with refused("parameter", f"dla_core: {core}: this GPU has 2 DLA cores"):
            building.use_dla(trt, builder, network, config, core)


# Parsing


@pytest.fixture
def onnx(tmp_path: Path) -> str:
    (tmp_path / "g.onnx").write_bytes(b"\xffgraph")
    return str(tmp_path / "g.onnx")


def parsed(onnx: str, trt: Any, **changed: Any) -> Any:
    return building.parse(trt, trt.Builder(None), "logger", request(onnx=onnx, **changed))


@pytest.mark.parametrize(
    ("options", "strong", "flags"),
    [
        ({}, False, 1),
        ({"strongly_typed": True}, False, 3),
        ({"runtime": "tensorrt_rtx"}, False, 0),
        ({}, True, 0),
        ({"strongly_typed": True}, True, 2),
        ({"runtime": "tensorrt_rtx", "strongly_typed": True}, False, 2),
    ],
)
def test_networks_are_created_with_what_the_version_has(
    onnx: str, options: dict[str, Any], strong: bool, flags: int
) -> None:
    trt = tensorrt(strong=strong)
    network, parser = parsed(onnx, trt, name="mine", **options)
    assert (network._flags, network.name, trt.made["parsed"]) == (flags, "mine", [b"\xffgraph"])
    assert (parser._network, parser._logger) == (network, "logger")


def test_an_old_version_has_no_strong_typing(onnx: str) -> None:
    trt = tensorrt()
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
    assert parsed(onnx, trt, strongly_typed=True)[0]._flags == 1


def test_what_cannot_be_parsed(onnx: str) -> None:
    two = (ParserError("no  such op", "n/1", "Odd"), OldParserError("second"))
    with refused("parse", "Odd n/1 no such op; second"):
        parsed(onnx, tensorrt(parsed=False, errors=two))
    with refused("parse", "second"):
        parsed(onnx, tensorrt(errors=two[1:]))  # it said yes, and told an error
    with refused("parse", "the graph has no outputs"):
        parsed(onnx, tensorrt(outputs=0))
    with refused("parse", "the graph has no outputs"):
        parsed(onnx, tensorrt(parsed=False))


def test_a_builder_that_does_not_start(out: Out) -> None:
    def fail(logger: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt = tensorrt()
    logger = base.make_logger(trt, out)
    assert building.make_builder(trt, logger)._logger is logger
    trt.Builder = fail
    with refused("driver", "TensorRT does not start: it gave no reason"):
        building.make_builder(trt, logger)
    logger.log(ILogger.ERROR, "CUDA initialization failure with error: 100")
    with refused("driver", "TensorRT does not start: CUDA initialization failure with error: 100"):
        building.make_builder(trt, logger)


@pytest.mark.parametrize(
    ("errors", "skipped", "kind"),
    [
        ([], 0, "build"),
        (["odd"], 5, "build"),
        (["CUDA Out Of Memory"], 0, "memory"),
        (["cudaErrorMemoryAllocation OutOfMemory"], 0, "memory"),
        (["insufficient workspace"], 0, "memory"),
        (["Unable to load library libx"], 0, "library"),
        (["Could not find any implementation for node a"], 0, "build"),
        (["Could not find any implementation for node a"], 1, "memory"),
        (
            ["Unable to load library libx", "Could not find any implementation for node a"],
            1,
            "library",
        ),
        (["out of memory", "Unable to load library libx"], 0, "memory"),
        (["insufficient", "workspace"], 0, "memory"),
    ],
)
def test_what_a_failed_build_means(errors: list[str], skipped: int, kind: str) -> None:
    assert building.meaning(SimpleNamespace(errors=errors, skipped=skipped)) == kind


# A whole build


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
    [runtime], [refitter] = trt.made["Runtime"], trt.made["Refitter"]
    assert (runtime.engine_host_code_allowed, runtime._logger, trt.made["loaded"]) == (
        True,
        logger,
        [b"plan"],
    )
    assert (refitter._engine, refitter._logger) == (trt.made["ICudaEngine"][0], logger)


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
    monkeypatch.setattr(building, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monitor = building.make_monitor(tensorrt(), out)
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


# Engines on a GPU


def on_gpu(**changed: Any) -> dict[str, Any]:
    return {
        "runtime": "tensorrt",
        "plan": "p",
        "data": b"data",
        "host_code": False,
        "dla_core": None,
        **changed,
    }


@pytest.mark.parametrize(
    ("options", "host_code", "core"),
    [
        ({}, False, -1),
        ({"host_code": True}, True, -1),
        ({"dla_core": 0}, False, 0),
        ({"dla_core": 1}, False, 1),
    ],
)
def test_a_plan_is_loaded_with_its_options(
    out: Out, options: dict[str, Any], host_code: bool, core: int
) -> None:
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    with engines.Loaded(trt, logger, on_gpu(**options)) as engine:
        assert [engine] == trt.made["ICudaEngine"]
    [runtime] = trt.made["Runtime"]
    assert (trt.made["loaded"], runtime._logger) == ([b"data"], logger)
    assert (runtime.engine_host_code_allowed, runtime.DLA_core) == (host_code, core)


def test_a_loaded_plan_does_not_outlive_its_block(out: Out) -> None:
    loaded = engines.Loaded(tensorrt(), base.make_logger(tensorrt(), out), on_gpu())
    with loaded:
        assert {"engine", "runtime"} <= vars(loaded).keys()
    assert not {"engine", "runtime"} & vars(loaded).keys()


def test_a_plan_that_this_gpu_does_not_take(out: Out) -> None:
    trt = tensorrt(loads=False)
    logger = base.make_logger(trt, out)
    with (
        refused("engine", "TensorRT could not load it on this GPU and gave no reason"),
        engines.Loaded(trt, logger, on_gpu()),
    ):
        pass
    logger.log(ILogger.ERROR, "the engine plan is of another device")
    with (
        refused("engine", "the engine plan is of another device"),
        engines.Loaded(trt, logger, on_gpu()),
    ):
        pass


@pytest.fixture
def engine() -> ICudaEngine:
    return ICudaEngine()


def runner_of(engine: ICudaEngine, batch: int = 2, profile: int = 0, **more: Any) -> Any:
    return engines.Runner(tensorrt(), engine, [batch, 3, 4, 4], profile)


def test_the_buffers_of_a_runner(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine) as runner:
        [context], [stream] = engine._contexts, cuda.streams
        assert (runner.context, runner.stream) == (context, stream)
        assert (context._shape, context._profile) == ((2, 3, 4, 4), None)
        assert (runner.names, runner.inputs(), runner.outputs()) == (
            ["y", "x", "z"],
            ["x"],
            ["y", "z"],
        )
        shapes = {name: (array.shape, array.dtype) for name, array in runner.host.items()}
        assert shapes == {
            "y": ((2, 3, 4, 4), np.float32),
            "x": ((2, 3, 4, 4), np.float32),
            "z": ((2, 4, 4), np.float16),
        }
        assert [memory.size for memory in cuda.memory] == [384, 384, 64]
        assert context._addresses == {"y": 1000, "x": 1001, "z": 1002}
        assert not any(memory.freed for memory in cuda.memory)
    assert all(memory.freed for memory in cuda.memory)
    assert runner.host == {}
    assert "context" not in vars(runner)


def test_another_profile_is_set_first(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine, 4, 1):
        assert engine._contexts[0]._profile == (1, 77)


def test_no_room_for_a_context(cuda: Cuda, engine: ICudaEngine) -> None:
    engine._room = False
    with refused("memory", "no room on the GPU for the engine's 5 MiB"), runner_of(engine):
        pass


def test_the_memory_of_an_engine() -> None:
    assert engines.memory_size(SimpleNamespace(device_memory_size=3)) == 3
    assert engines.memory_size(SimpleNamespace(device_memory_size=3, device_memory_size_v2=4)) == 4


@pytest.mark.parametrize(
    ("shape", "profile", "words"),
    [
        (
            [3, 3, 4, 4],
            0,
            "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (3, 3, 4, 4)",
        ),
        (
            [0, 3, 4, 4],
            0,
            "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (0, 3, 4, 4)",
        ),
        ([2, 3, 4], 0, "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (2, 3, 4)"),
        ([2, 3, 4, 4], 1, "input x takes (4, 3, 4, 4) in profile 1, not (2, 3, 4, 4)"),
    ],
)
def test_a_shape_that_does_not_fit(
    cuda: Cuda, engine: ICudaEngine, shape: list[int], profile: int, words: str
) -> None:
    with refused("engine", words), engines.Runner(tensorrt(), engine, shape, profile):
        pass


def test_a_shape_that_tensorrt_refuses(
    cuda: Cuda, engine: ICudaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.child.IExecutionContext.set_input_shape", lambda self, name, shape: False
    )
    words = "input x takes (1, 3, 4, 4) to (2, 3, 4, 4) in profile 0, not (1, 3, 4, 4)"
    with refused("engine", words), runner_of(engine, 1):
        pass


def test_a_run_with_and_without_transfers(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine) as runner:
        context = engine._contexts[0]
        runner.enqueue()
        assert (context._runs, cuda.calls) == (1, [])
        context._memory = {int(memory): memory for memory in cuda.memory}
        for name in ("y", "z"):
            context._memory[context._addresses[name]].values = np.zeros_like(runner.host[name])
        runner.host["x"][...] = 3
        runner.enqueue(True)
        assert cuda.calls == [("to the GPU", 1001), ("from the GPU", 1000), ("from the GPU", 1002)]
        assert (runner.host["y"].max(), runner.host["z"].min()) == (6, 4)
        context._refuses = lambda number: True
        with refused("engine", "the engine refused to run"):
            runner.enqueue()


def test_all_images_run_batch_by_batch(cuda: Cuda, engine: ICudaEngine, tmp_path: Path) -> None:
    """Five images in batches of two: the last is filled with what was there before."""
    images = np.random.default_rng(0).random((5, 3, 4, 4)).astype(np.float32)
    said: list[int] = []
    with runner_of(engine) as runner:
        context = engine._contexts[0]
        context._memory = {int(memory): memory for memory in cuda.memory}
        for name in ("y", "z"):
            context._memory[context._addresses[name]].values = np.zeros_like(runner.host[name])
        milliseconds = runner.run_all(images, str(tmp_path), said.append)
    assert (milliseconds, said) == ([1.0] * 3, [2, 4, 5])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npy", "1.npy"]
    first, second = np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy")
    assert (first.dtype, second.dtype) == (np.float32, np.float16)
    assert np.array_equal(first, images * 2)
    assert np.array_equal(second, (images[:, 0] + 1).astype(np.float16))


def test_a_time_is_between_two_events(cuda: Cuda, engine: ICudaEngine) -> None:
    with runner_of(engine) as runner:

        def work() -> None:
            cuda.now += 41.5

        assert runner.once(work) == 42.5


# Inspecting


def test_an_inspection(cuda: Cuda, out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"Layers": ["conv \x01", {"Name": "relu"}]}'
    monkeypatch.setattr(ICudaEngine, "create_engine_inspector", lambda self: load_inspector(text))
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    inspecting.inspect(trt, logger, on_gpu(shape=[2, 3, 4, 4]), out)
    assert out.sent == [
        {
            "event": "result",
            "layers": ["conv \x01", {"Name": "relu"}],
            "milliseconds": {"conv": 3.0, "relu": 0.5},
            "device_memory": 5 << 20,
        }
    ]
    [engine] = trt.made["ICudaEngine"]
    assert engine._contexts[0]._runs == 70
    assert engine._contexts[0]._shape == (2, 3, 4, 4)
    assert cuda.streams[0].waits == 51
    assert all(memory.freed for memory in cuda.memory)


def load_inspector(text: str) -> Any:
    from tests.child import EngineInspector

    return EngineInspector(text)


@pytest.mark.parametrize(
    ("module", "name"), [(inspecting, "inspect"), (refitting, "refit"), (running, "measure")]
)
def test_work_on_a_gpu_has_its_context(
    module: Any, name: str, out: Out, cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt, calls = tensorrt(), list[Any]()
    monkeypatch.setattr(module, "load", lambda runtime: calls.append(runtime) or trt)
    monkeypatch.setattr(module, name, lambda *given: calls.append((given, list(cuda.calls))))
    asked = on_gpu(runtime="tensorrt_x")
    module.main(asked, out)
    assert calls[0] == "tensorrt_x"
    (found, logger, given, stream), on_stack = calls[1]
    assert (found, given, stream) == (trt, asked, out)
    assert on_stack == ["init", ("retain", 0), "push"]
    assert cuda.calls[3:] == ["pop", "detach"]
    logger.log(ILogger.ERROR, "bad")
    assert out.sent == [{"event": "log", "severity": "error", "message": "bad"}]


# Refitting


def weights(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "w.npz", **{f"weights/{name}": value for name, value in arrays.items()})
    return str(folder / "w.npz")


def refit(out: Out, tmp_path: Path, trt: Any = None, **changed: Any) -> Any:
    trt = trt or tensorrt()
    asked = on_gpu(**{"out": str(tmp_path / "new"), "prefix": "weights/", "ranges": {}, **changed})
    logger = base.make_logger(trt, out)
    refitting.refit(trt, logger, asked, out)
    return trt


def test_weights_are_replaced(out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([5.0, 7.5])
    monkeypatch.setattr(refitting, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(
        refitting, "full_version", lambda runtime, trt: f"{runtime} {trt.__version__}"
    )
    a = np.arange(6, dtype=np.float32).reshape(2, 3).T
    trt = refit(out, tmp_path, weights=weights(tmp_path, a=a, b=np.ones(2, np.float16)))
    [refitter] = trt.made["Refitter"]
    assert {name: given.values.tolist() for name, given in refitter._set.items()} == {
        "a": [0, 3, 1, 4, 2, 5],
        "b": [1, 1],
    }
    assert {name: given.values.dtype for name, given in refitter._set.items()} == {
        "a": np.float32,
        "b": np.float16,
    }
    assert refitter._ranges == {}
    assert refitter._logger is trt.made["Runtime"][0]._logger is not None
    assert (refitter._engine, trt.made["loaded"]) == (trt.made["ICudaEngine"][0], [b"data"])
    assert (tmp_path / "new").read_bytes() == b"refitted"
    assert out.sent == [
        {
            "event": "result",
            "plan_sha256": hashlib.sha256(b"refitted").hexdigest(),
            "plan_bytes": 8,
            "seconds": 2.5,
            "runtime_version": "tensorrt 10.16.1",
        }
    ]


def test_ranges_are_replaced_on_both_sides_of_zero(out: Out, tmp_path: Path) -> None:
    given = weights(tmp_path, a=np.ones(1), b=np.ones(1))
    trt = refit(out, tmp_path, weights=given, ranges={"t": 2.5, "u": 1.0, "more": 3.0})
    assert trt.made["Refitter"][0]._ranges == {"t": (-2.5, 2.5), "u": (-1.0, 1.0)}
    with refused("refit", "there is no range for u"):
        refit(out, tmp_path, weights=given, ranges={"t": 2.5})


def test_a_plan_without_ranges(out: Out, tmp_path: Path) -> None:
    refitter = SimpleNamespace(get_tensors_with_dynamic_range=list)
    with refused("refit", "this plan's INT8 ranges cannot be replaced"):
        refitting.set_ranges(refitter, {"t": 1.0})


def test_weights_that_do_not_fit(out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("refit", "the weights c do not fit: the plan has none of this name"):
        refit(out, tmp_path, weights=weights(tmp_path, a=np.ones(1), c=np.ones(1)))
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    logger.log(ILogger.ERROR, "count mismatch")
    asked = on_gpu(
        weights=weights(tmp_path, c=np.ones(1)), prefix="weights/", ranges={}, out="none"
    )
    with refused("refit", "the weights c do not fit: count mismatch"):
        refitting.refit(trt, logger, asked, out)
    with refused("refit", "still needed: b"):
        refit(out, tmp_path, weights=weights(tmp_path, a=np.ones(1)))
    monkeypatch.setattr(
        "tests.child.Refitter.get_missing_weights", lambda self: ["a", "b", "c", "d"]
    )
    with refused("refit", "still needed: a, b, c"):
        refit(out, tmp_path, weights=weights(tmp_path, a=np.ones(1)))
    assert not (tmp_path / "new").exists()


def test_a_refit_that_fails(out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.child.Refitter.refit_cuda_engine", lambda self: False)
    given = weights(tmp_path, a=np.ones(1), b=np.ones(1))
    with refused("refit", "TensorRT gave no reason"):
        refit(out, tmp_path, weights=given)
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    logger.log(ILogger.ERROR, "it failed")
    with refused("refit", "it failed"):
        refitting.refit(
            trt, logger, on_gpu(weights=given, prefix="weights/", ranges={}, out="none"), out
        )


# Measuring


def test_statistics() -> None:
    found = running.statistics(np.array([4.0, 1.0, 2.0, 3.0, 10.0]))
    assert found == {
        "mean": 4.0,
        "min": 1.0,
        "max": 10.0,
        "p50": 3.0,
        "p90": pytest.approx(7.6),
        "p99": pytest.approx(9.76),
        "runs": 5,
    }
    assert {type(value) for name, value in found.items() if name != "runs"} == {float}


def timed_runner(cuda: Cuda, times: Any) -> Any:
    """A runner of batches of four whose runs take these milliseconds."""
    work: list[Any] = []

    def once(of: Any) -> float:
        of()
        work.append(of)
        return next(times)

    return SimpleNamespace(
        once=once,
        enqueue=lambda transfers=False: cuda.calls.append(transfers),
        input_shape=(4, 3, 2, 2),
        work=work,
    )


def test_a_repeat_warms_up_for_a_second(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.5, 10.9, 11.0])
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    runner = timed_runner(cuda, iter([9.0, 9.0, 1.0, 2.0, 3.0]))
    found = running.repeat(runner, 3, runner.enqueue)
    assert found.tolist() == [1.0, 2.0, 3.0]


def test_throughput_counts_images(cuda: Cuda) -> None:
    runner = timed_runner(cuda, iter([50.0]))
    assert running.throughput(runner, 10) == 10 * 4 * 1000 / 50
    assert cuda.calls == [False] * 10


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Any:
    graph = SimpleNamespace(ready=True, launch="launch", open=0)

    class Captured:
        def __init__(self, runner: Any) -> None:
            graph.runner = runner

        def __enter__(self) -> Any:
            graph.open += 1
            return graph

        def __exit__(self, *_: object) -> None:
            graph.open -= 1

    monkeypatch.setattr(running, "CapturedGraph", Captured)
    return graph


def test_timings_of_each_kind(
    cuda: Cuda, out: Out, captured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = timed_runner(cuda, iter([]))
    asked: list[Any] = []

    def repeat(given: Any, runs: int, once: Any) -> Any:
        assert captured.open == 1
        if once != "launch":
            once()
        asked.append((given, runs, once if once == "launch" else cuda.calls.pop()))
        return np.ones(runs)

    monkeypatch.setattr(running, "repeat", repeat)
    monkeypatch.setattr(running, "throughput", lambda *given: given)
    found = running.timings(runner, 5, 1.25, out)
    assert asked == [(runner, 5, False), (runner, 5, True), (runner, 5, "launch")]
    assert list(found) == ["gpu", "with_transfers", "cuda_graph", "images_per_second"]
    assert found["images_per_second"] == (runner, 5)
    assert (
        found["gpu"]
        == found["with_transfers"]
        == found["cuda_graph"]
        == running.statistics(np.ones(5))
    )
    assert out.sent == [
        {"event": "progress", "phase": f"timing {kind}", "step": step, "steps": 3}
        for kind in ("gpu", "with transfers", "cuda graph")
        for step in (0, 1)
    ]
    assert (captured.open, captured.runner) == (0, runner)
    captured.ready = False
    assert running.timings(runner, 5, 1.25, out)["cuda_graph"] is None


@pytest.mark.parametrize(("p90s", "tries"), [([1.25], 1), ([1.26, 1.0], 2), ([9, 8, 7], 3)])
def test_a_noisy_timing_is_tried_again(
    cuda: Cuda,
    out: Out,
    captured: Any,
    monkeypatch: pytest.MonkeyPatch,
    p90s: list[float],
    tries: int,
) -> None:
    captured.ready = False
    times = iter([*p90s, 1.0])
    monkeypatch.setattr(running, "repeat", lambda *_: next(times))
    monkeypatch.setattr(running, "statistics", lambda p90: {"p50": 1.0, "p90": p90})
    monkeypatch.setattr(running, "throughput", lambda *_: 1.0)
    found = running.timings(timed_runner(cuda, iter([])), 5, 1.25, out)
    assert found["gpu"]["p90"] == p90s[-1]
    steps = [event["step"] for event in out.sent if event["phase"] == "timing gpu"]
    assert steps == [step for done in range(tries) for step in (done, done + 1)]


def test_a_measurement_of_points(
    cuda: Cuda, out: Out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        running,
        "timings",
        lambda runner, runs, noisy, stream: [runner.input_shape, runs, noisy, stream is out],
    )
    monkeypatch.setattr(running, "describe", lambda device, index: [device.index, index])
    images = np.zeros((5, 3, 4, 4), np.float32)
    np.save(tmp_path / "i.npy", images)
    points = [
        {
            "shape": [2, 3, 4, 4],
            "profile": 0,
            "images": str(tmp_path / "i.npy"),
            "outputs": str(tmp_path / "a"),
            "timed": True,
        },
        {
            "shape": [4, 3, 4, 4],
            "profile": 1,
            "images": str(tmp_path / "i.npy"),
            "outputs": str(tmp_path / "b"),
            "timed": False,
        },
    ]
    for name in "ab":
        (tmp_path / name).mkdir()
    loaded: list[Any] = []

    class Engine(ICudaEngine):
        def create_execution_context(self) -> Any:
            context = super().create_execution_context()
            loaded.append(context)
            return context

    monkeypatch.setattr("tests.child.ICudaEngine", Engine)
    monkeypatch.setattr(engines.Runner, "run_all", run_all)
    trt = tensorrt()
    running.measure(trt, base.make_logger(trt, out), on_gpu(points=points, runs=7, noisy=1.5), out)
    result = out.sent[-1]
    assert result == {
        "event": "result",
        "gpu": [0, 0],
        "device_memory": 5 << 20,
        "points": [
            {
                "outputs": ["y", "z"],
                "milliseconds": [5, str(tmp_path / "a")],
                "timing": [(2, 3, 4, 4), 7, 1.5, True],
            },
            {"outputs": ["y", "z"], "milliseconds": [5, str(tmp_path / "b")]},
        ],
    }
    assert out.sent[:-1] == [{"event": "progress", "phase": "images", "step": 3, "steps": 5}] * 2
    assert [(context._runs, context._profile) for context in loaded] == [(1, None), (1, (1, 78))]
    running.measure(
        trt, base.make_logger(trt, out), on_gpu(points=points[:1], runs=0, noisy=1.5), out
    )
    assert "timing" not in out.sent[-1]["points"][0]


def run_all(self: Any, images: Any, folder: str, told: Any) -> Any:
    """What a runner would do; the engine has already run once, to load its kernels."""
    assert self.context._runs == 1
    assert isinstance(images, np.memmap)
    told(3)
    return [len(images), folder]


class Driver:
    """The driver's calls for CUDA graphs; `fails` are the names that do not succeed."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.calls = fails, list[Any]()

    def __getattr__(self, name: str) -> Any:
        def call(*given: Any) -> int:
            self.calls.append((name, *[getattr(value, "value", value) for value in given]))
            if name == "cuStreamEndCapture" and name not in self.fails:
                given[1]._obj.value = 11
            if name == "cuGraphInstantiateWithFlags" and name not in self.fails:
                given[0]._obj.value = 22
            return 1 if name in self.fails else 0

        return call


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*fails: str) -> Driver:
        found = Driver(*fails)
        names: list[str] = []
        fake = SimpleNamespace(
            CDLL=lambda name: names.append(name) or found,
            c_void_p=ctypes.c_void_p,
            c_ulonglong=ctypes.c_ulonglong,
            byref=ctypes.byref,
        )
        monkeypatch.setattr(running, "ctypes", fake)
        found.names = names  # type: ignore[attr-defined]
        return found

    return make


def a_runner(fails: bool = False) -> Any:
    runs: list[int] = []

    def enqueue() -> None:
        runs.append(1)
        if fails:
            raise base.RefusedError("engine", "no")

    return SimpleNamespace(stream=SimpleNamespace(handle=7), enqueue=enqueue, runs=runs)


def test_a_cuda_graph_is_captured_launched_and_given_back(driver: Any) -> None:
    cuda_driver, runner = driver(), a_runner()
    with running.CapturedGraph(runner) as captured:
        assert captured.ready is True
        captured.launch()
        assert runner.runs == [1]
    assert cuda_driver.names == ["libcuda.so.1"]
    begin, end, instantiate, launch, *destroyed = cuda_driver.calls
    assert begin == ("cuStreamBeginCapture_v2", 7, 2)
    assert end[:2] == ("cuStreamEndCapture", 7)
    assert (instantiate[0], instantiate[2:]) == ("cuGraphInstantiateWithFlags", (11, 0))
    assert launch == ("cuGraphLaunch", 22, 7)
    assert destroyed == [("cuGraphExecDestroy", 22), ("cuGraphDestroy", 11)]


@pytest.mark.parametrize(
    ("fails", "refuses", "names"),
    [
        (("cuStreamBeginCapture_v2",), False, ["cuStreamBeginCapture_v2"]),
        ((), True, ["cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphDestroy"]),
        (("cuStreamEndCapture",), False, ["cuStreamBeginCapture_v2", "cuStreamEndCapture"]),
        (
            ("cuGraphInstantiateWithFlags",),
            False,
            [
                "cuStreamBeginCapture_v2",
                "cuStreamEndCapture",
                "cuGraphInstantiateWithFlags",
                "cuGraphDestroy",
            ],
        ),
    ],
)
def test_what_cannot_be_captured(
    driver: Any, fails: tuple[str, ...], refuses: bool, names: list[str]
) -> None:
    cuda_driver, runner = driver(*fails), a_runner(refuses)
    with running.CapturedGraph(runner) as captured:
        assert captured.ready is False
    assert [call[0] for call in cuda_driver.calls] == names


def test_a_graph_that_does_not_launch(driver: Any) -> None:
    driver("cuGraphLaunch")
    with (
        running.CapturedGraph(a_runner()) as captured,
        refused("engine", "the CUDA graph did not launch"),
    ):
        captured.launch()


def test_nothing_of_the_network_is_assumed() -> None:
    """The recorder's network has as many layers as it was given."""
    assert INetworkDefinition(0, ("a",), 1, (1,)).num_layers == 1
