"""Sessions of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enginery.errors import ModelError
from enginery.graphs import session
from tests.exact.graphs.common import convolution


def test_how_a_session_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opened: list[Any] = []

    def make(source: Any, options: Any, providers: Any) -> Any:
        entry = options.get_session_config_entry("session.disable_quant_qdq")
        opened.append(
            (
                source,
                options.log_severity_level,
                options.intra_op_num_threads,
                entry,
                list(providers),
            )
        )
        return SimpleNamespace(get_providers=lambda: list(providers))

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", make)
    monkeypatch.setattr(
        session.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    made = convolution()
    session.open_session(tmp_path / "a.onnx", 3)
    session.open_session(tmp_path / "a.onnx")
    session.open_model(made, "it", 2)
    cpu = ["CPUExecutionProvider"]
    assert opened == [
        (str(tmp_path / "a.onnx"), 4, 3, "1", cpu),
        (str(tmp_path / "a.onnx"), 4, 0, "1", cpu),
        (made.SerializeToString(), 4, 2, "1", cpu),
    ]


def test_what_onnx_runtime_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("it\n  is " + "x" * 400)

    monkeypatch.setattr(session.onnxruntime, "InferenceSession", fail)
    reason = "it is " + "x" * 294
    for use, what in (
        (lambda: session.open_session(tmp_path / "a"), tmp_path / "a"),
        (lambda: session.open_model(convolution(), "it"), "it"),
    ):
        with pytest.raises(ModelError) as error:
            use()
        assert str(error.value) == (
            f"ONNX Runtime does not take {what}: {reason}. Export the model again, or replace what it names"
        )


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_CORES", 8)
    assert [session.threads_beside(workers) for workers in (1, 2, 3, 8, 16)] == [8, 4, 2, 1, 1]
    assert min(4, session.WORKERS) >= 1
