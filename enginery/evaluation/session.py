"""ONNX Runtime sessions on the CPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from enginery.errors import ModelError


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """A quiet CPU session of a graph.

    Raises:
        ModelError: ONNX Runtime does not take the graph.
    """
    return _open(str(path), str(path))


def open_model(model: onnx.ModelProto, what: str) -> onnxruntime.InferenceSession:
    """A quiet CPU session of a graph in memory; errors call it `what`.

    Raises:
        ModelError: ONNX Runtime does not take the graph.
    """
    return _open(model.SerializeToString(), what)


def _open(source: str | bytes, what: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Its own INT8 kernels saturate on CPUs without VNNI, which no TensorRT engine does: Q/DQ pairs are computed as they stand.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exceptions share no base
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"ONNX Runtime does not take {what}: {reason}", "Export the model again, or replace what it names") from None
