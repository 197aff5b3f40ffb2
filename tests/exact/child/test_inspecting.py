"""An inspection of an engine's layers, and the context that work on a GPU has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.child import Out, tensorrt
from tests.exact.child.common import base, inspecting, on_gpu, refitting, running
from tests.recorder.building import ILogger
from tests.recorder.cuda import Cuda
from tests.recorder.engines import ICudaEngine


def test_an_inspection(cuda: Cuda, out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"Layers": ["conv \x01", {"Name": "relu"}], "Bindings": ["x", "y"]}'
    monkeypatch.setattr(ICudaEngine, "create_engine_inspector", lambda self: load_inspector(text))
    trt = tensorrt()
    logger = base.make_logger(trt, out)
    inspecting.inspect(trt, logger, on_gpu(shape=[2, 3, 4, 4]), out)
    assert out.sent == [
        {
            "event": "result",
            "layers": ["conv \x01", {"Name": "relu"}],
            "bindings": ["x", "y"],
            "milliseconds": {"conv": 3.0, "relu": 0.5},
            "medians": {"conv": 3.0, "relu": 0.5},
            "runs": 50,
            "device_memory": 5 << 20,
        }
    ]
    [engine] = trt.made["ICudaEngine"]
    assert engine._contexts[0]._runs == 70
    assert engine._contexts[0]._shape == (2, 3, 4, 4)
    assert cuda.streams[0].waits == 51
    assert all(memory.freed for memory in cuda.memory)


def load_inspector(text: str) -> Any:
    from tests.recorder.engines import EngineInspector

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
